#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace ood::ops {

/// The gradients of squared distances, where there is much to do by matrix products of centred
/// rows. No result depends on the number of threads. float32 or float64, contiguous.
///
/// With weights w [N, K] and a factor f
///
///   dx_i = f sum_j w_ij (x_i - c_j)      dc_j = f sum_i w_ij (c_j - x_i)
///
/// undefined where one is not wanted. Where few weights are not 0, as those of a loss that looks at
/// one center, directly, without loss of digits near a center. A weight of 0 takes no part,
/// whatever x_i - c_j is; one below the least normal number counts as 0.
std::pair<at::Tensor, at::Tensor> distance_gradients(const at::Tensor& x, const at::Tensor& c,
                                                     const at::Tensor& w, double f, bool want_x,
                                                     bool want_c);

}  // namespace ood::ops
