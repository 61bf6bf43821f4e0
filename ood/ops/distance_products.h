#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>

/// Squared distances, by direct differences, and their gradients, where there is much to do by
/// matrix products of centred rows. No result depends on the number of threads. float32 or float64,
/// contiguous.
namespace ood::ops {

/// x [N, D], c [K, D] -> [N, K] of ||x_i - c_j||^2.
at::Tensor square_distances(const at::Tensor& x, const at::Tensor& c);

/// out_i = sum_j w_ij (x_i - c_j): [N, D] for weight [N, K]. Rows of w that are mostly 0, as those
/// of a loss that looks at one center, are summed directly, without loss of digits near a center. A
/// weight of 0 takes no part, whatever x_i - c_j is.
at::Tensor weighted_differences(const at::Tensor& x, const at::Tensor& c, const at::Tensor& weight);

/// Both gradients, out and minus its sums over i, where at most 2 N of the N K weights are not 0
/// and the matrix is large; else nothing.
std::optional<std::pair<at::Tensor, at::Tensor>> sparse_gradients(const at::Tensor& x,
                                                                  const at::Tensor& c,
                                                                  const at::Tensor& weight);

/// The closest two of the rows [N, D] that have counts [N] above 0, as (i, j) with i < j, lowest
/// indices first on ties; (0, 0) where there are fewer than two.
std::pair<std::int64_t, std::int64_t> closest_pair(const at::Tensor& rows,
                                                   const at::Tensor& counts);

}  // namespace ood::ops
