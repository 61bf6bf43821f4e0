#pragma once

#include <ATen/core/Tensor.h>

namespace ood::ops {

/// What reaches a loss from above in a backward pass without a graph: a number, with which the
/// gradient that was computed along with the loss is multiplied.
class GradientFactor {
 public:
  explicit GradientFactor(const at::Tensor& upstream);
  /// `gradient` times the factor: itself where nobody can ask for it again, else another tensor.
  at::Tensor times(const at::Tensor& gradient) const;

 private:
  at::Tensor upstream_;
  bool give_away_;
};

}  // namespace ood::ops
