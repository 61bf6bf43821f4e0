#pragma once

#include "ood/train/description.h"

namespace ood {

/// What model.safetensors holds: the weights, how inputs are prepared, and the scores of the
/// held-out in-distribution data, from which a threshold of any share is set.
struct Trained {
  ModelDescription description;
  Model model;
  std::vector<double> validation_scores;
};

void save_trained(const std::filesystem::path& path, const Trained& trained);

/// In evaluation mode. DataError where the file is missing, damaged or of another format.
Trained load_trained(const std::filesystem::path& path);

/// Copies the network's tensors of the same name and shape from a run, for fine-tuning: the last
/// layer may have other classes. DataError where the run has another network.
void initialise_network(Classifier& network, const ModelDescription& description,
                        const std::filesystem::path& run);

}  // namespace ood
