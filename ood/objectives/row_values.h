#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace ood {

/// Reduces one value per row, as "none", "sum" or "mean" says, over the rows where `taken` holds;
/// the others count as 0 and not at all in the mean. No row gives 0. For objectives that are no
/// formula.
at::Tensor reduce_rows(const at::Tensor& values, const at::Tensor& taken,
                       std::string_view reduction);

/// 1 for "sum", 0 for "mean", as one of the numbers of a loss; another reduction is a ValueError.
double reduction_is_sum(std::string_view reduction);

/// The other way round.
inline std::string_view reduction_name(double is_sum) { return is_sum != 0 ? "sum" : "mean"; }

}  // namespace ood
