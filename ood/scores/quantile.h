#pragma once

#include <ATen/core/Tensor.h>

namespace ood {

/// The q-quantile of all numbers of a tensor, 0 <= q <= 1, linear between neighbours as NumPy's
/// default; without sorting them all.
double quantile_of(const at::Tensor& numbers, double q);

}  // namespace ood
