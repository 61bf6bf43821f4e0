#pragma once

#include <filesystem>
#include <functional>

#include "ood/data/dataset.h"
#include "ood/models/network_file.h"
#include "ood/train/description.h"

namespace ood {

/// The features that a network gives of inputs: of a trained run, or of a file of
/// `python -m ood.to_program`.
class Embedder {
 public:
  /// `source`: a run folder, its model.safetensors, FILE.pt or FILE.pt2. UsageError where a file has no
  /// constants for its inputs, which a run has of its training data. It computes on `device`: cpu,
  /// cuda or cuda:N; UsageError where there is none.
  static Embedder load(const std::filesystem::path& source, const std::string& device = "cpu");

  /// How pictures are to be read for it: at the size of a run's training, or that FILE.pt2 is made
  /// for. UsageError where another one is asked for.
  PictureOptions reading(const PictureOptions& asked) const;

  /// Pictures uint8 [N, C, H, W], which are brought to the channels and, of a run or FILE.pt2, its
  /// size, or embeddings float32 [N, D, 1, 1] -> float32 [N, features] on the CPU, part by part in
  /// their order, so that memory need not hold all. DataError where the network takes the other kind.
  void in_parts(const Inputs& inputs, const std::function<void(const at::Tensor&)>& visit);

 private:
  std::shared_ptr<Classifier> network_;
  c10::Device device_ = c10::kCPU;
  NetworkFile file_;        // a FILE.pt's network is made for the size of the first inputs
  ModelDescription takes_;  // what it takes; of a file its size once that is known

  Inputs taken(const Inputs& inputs);
  Inputs prepared(const Inputs& pictures) const;
};

}  // namespace ood
