#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

/// What the scores share that change activations before the last layer and take the energy.
namespace ood::activation {

/// -logsumexp(W z + b) of features [N, D] float64.
inline at::Tensor energy(const at::Tensor& features, Tensors head) {
  return through_head(features, head[0], head[1]).logsumexp(1).neg();
}

/// Features below 0 are no activations of a ReLU, which these scores are made for.
inline void check_not_negative(std::string_view score, double least) {
  TORCH_CHECK_VALUE(least >= 0, score,
                    ": expected features of at least 0, as a ReLU gives them, got ", least);
}

/// How many of D activations are kept where a share of them is dropped; at least one.
inline std::int64_t kept(std::int64_t d, double dropped) {
  return std::max<std::int64_t>(1,
                                d - std::llround(std::nearbyint(static_cast<double>(d) * dropped)));
}

/// exp(sum of all / sum of the largest k) of each row [N, 1]; 1 for a row of zeros.
inline at::Tensor sharpening(const at::Tensor& features, const at::Tensor& largest) {
  const auto top = largest.sum(1, true);
  return at::where(top.gt(0), (features.sum(1, true) / at::where(top.gt(0), top, 1.0)).exp(), 1.0);
}

}  // namespace ood::activation
