#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "ood/models/classifier.h"
#include "ood/train/objective.h"
#include "ood/train/safetensors.h"

namespace ood {

/// A network with the objective it is trained with.
struct Model {
  std::shared_ptr<Classifier> network;
  std::shared_ptr<Objective> objective;
};

/// The parameters that an optimizer trains: the network's and the objective's.
std::vector<at::Tensor> trainable(const Model& model);

/// How many of these, the first, are of the network before its last layer.
std::size_t of_backbone(const Model& model);

/// Every tensor of a model by name; the objective's own begin with "objective.".
TensorFile tensors_of(const Model& model);

/// Copies the file's tensors into the model. DataError where one is missing or has another shape.
void fill_model(const Model& model, const TensorFile& file, const std::filesystem::path& path);

}  // namespace ood
