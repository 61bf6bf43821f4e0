#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace ood::ops {

/// The closest two of the rows [N, D] that have counts [N] above 0, as (i, j) with i < j, lowest
/// indices first on ties; (0, 0) where there are fewer than two. float32 or float64, contiguous.
std::pair<std::int64_t, std::int64_t> closest_pair(const at::Tensor& rows,
                                                   const at::Tensor& counts);

}  // namespace ood::ops
