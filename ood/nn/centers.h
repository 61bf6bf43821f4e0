#pragma once

#include <torch/nn/pimpl.h>

#include "ood/nn/exact_state.h"
#include "ood/ops/distances.h"

namespace ood::nn {

/// One center per class, a parameter [K, D] drawn from N(0, magnitude^2), or a fixed buffer.
class ClassCentersImpl : public torch::nn::Module {
 public:
  ClassCentersImpl(std::int64_t classes, std::int64_t dimension, double magnitude = 1,
                   bool fixed = false);

  /// embedding [N, D] -> squared distances [N, K], without cancellation near a center.
  at::Tensor forward(const at::Tensor& embedding) {
    return center_distances(embedding, centers, true);
  }

  at::Tensor centers;
};
TORCH_MODULE(ClassCenters);

/// Running means of classes, [K, D]: exact means of all rows seen, or an exponential average.
/// Updates carry no gradient; classes that have not been seen are marked by a count of 0.
class RunningCentersImpl : public ExactState {
 public:
  /// momentum 0: exact running mean; else c += momentum (batch mean - c).
  RunningCentersImpl(std::int64_t classes, std::int64_t dimension, double momentum = 0);

  void update(const at::Tensor& embedding, const at::Tensor& target);
  void reset();
  /// embedding [N, D] -> squared distances [N, K]; infinite to classes that have not been seen.
  at::Tensor forward(const at::Tensor& embedding);
  /// [K] of bool.
  at::Tensor present() const { return counts.gt(0); }

  at::Tensor centers;  ///< [K, D]
  at::Tensor counts;   ///< [K] int64

 private:
  double momentum_;
};
TORCH_MODULE(RunningCenters);

}  // namespace ood::nn
