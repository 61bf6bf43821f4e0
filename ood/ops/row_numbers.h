#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/registry/registry.h"

namespace ood::ops {

/// Cross-entropy and log-sum of each row, for losses that make something of their own of them.
/// CPU, logits [N, C] of float32 or float64, target [N] int64; without graph.
class RowNumbers {
 public:
  /// `objective` names itself in errors; where it does not use OOD rows, these are never read.
  RowNumbers(const at::Tensor& logits, const at::Tensor& target, std::string_view objective,
             bool uses_ood);

  at::Tensor nll;  ///< [N], 0 for a row with a label below 0
  at::Tensor lse;  ///< [N], 0 for a row that is not used
  std::int64_t known;

  /// The gradient [N, C] of sum_i (upstream[0, i] nll_i + upstream[1, i] lse_i), contiguous.
  at::Tensor gradient(const at::Tensor& upstream) const;

 private:
  ObjectiveEntry entry_;
  at::Tensor logits_, target_, statistics_;
};

}  // namespace ood::ops
