#pragma once

#include <ATen/core/Tensor.h>

namespace ood::ops {

/// Squared distances, where there is much to do by a matrix product of centred rows. No result
/// depends on the number of threads. float32 or float64, contiguous.
///
/// x [N, D], c [K, D] -> [N, K] of ||x_i - c_j||^2. Near a center, where a product has lost digits,
/// by direct differences.
at::Tensor square_distances(const at::Tensor& x, const at::Tensor& c);

}  // namespace ood::ops
