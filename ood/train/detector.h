#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ood/data/picture.h"
#include "ood/train/threshold_rule.h"

namespace ood {

/// A trained run in use: class, outlier score and decision for a batch. Needs nothing but the run's
/// model.safetensors, which has the threshold's rule, too, and network.pt2 beside it where the network is machine code.
class Detector {
 public:
  /// `run`: a run folder of `ood train`, or its model.safetensors. DataError where it is missing or
  /// damaged, or has too few held-out scores for the threshold that is asked for. Its network
  /// computes on `device`: cpu, cuda or cuda:N; UsageError where there is none. CUDA is to be loaded
  /// before the first tensor is made.
  static Detector load(const std::filesystem::path& run, const AskedRule& rule = {},
                       const std::string& device = "cpu");
  /// One that accepts everything, of any run: for scores by which a threshold is to be set
  /// (threshold_for). Its p-values are 1.
  static Detector without_threshold(const std::filesystem::path& run,
                                    const std::string& device = "cpu");
  ~Detector();
  Detector(Detector&&) noexcept;

  /// An input for which the network's numbers are not finite has class -1, score and p-value NaN,
  /// and is not accepted.
  struct Answer {
    // All on the CPU.
    at::Tensor classes;   ///< int64 [N]; -1 where the objective knows one class only
    at::Tensor scores;    ///< float64 [N], higher for OOD
    at::Tensor p_values;  ///< float64 [N], among held-out ID data; see p_values.h
    at::Tensor accepted;  ///< bool [N]: score at or below the threshold
  };
  /// inputs: pictures, uint8 [N, C, H, W] as in training, or embeddings, float32 [N, D]. A
  /// c10::ValueError names what was expected.
  Answer operator()(const at::Tensor& inputs) const;

  /// How pictures were read for the training, for read_picture.
  PictureReading reading() const;

  /// Pictures uint8 [N, C, H, W] of any size, brought to the channels and the size of the training
  /// as it did that.
  at::Tensor prepared(const at::Tensor& pictures) const;

  const Threshold& threshold() const;
  const ThresholdRule& rule() const;
  const std::vector<std::string>& class_names() const;
  /// {C, H, W} of pictures, {D} of embeddings.
  std::vector<std::int64_t> input_shape() const;

 private:
  Detector();
  static Detector of(const std::filesystem::path& model, const std::string& device);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ood
