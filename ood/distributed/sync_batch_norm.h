#pragma once

#include <ATen/core/Tensor.h>

#include "ood/distributed/ranks.h"

namespace ood {

/// Batch normalisation (Ioffe and Szegedy 2015) by mean and variance over the rows of all ranks:
///   y = (x - mean) / sqrt(var + eps) * weight + bias
/// x [N, C] or [N, C, H, W]; weight and bias [C] or undefined. Running mean and variance (unbiased)
/// move by `momentum`. Gradients of x are right where what comes from above has the same factor on
/// every rank; those of weight and bias are of this rank's rows.
at::Tensor sync_batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           at::Tensor running_mean, at::Tensor running_var, double momentum,
                           double eps, const Ranks& ranks);

}  // namespace ood
