#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace ood {

/// The k largest inner products of each row of `queries` [N, D] with rows of `bank` [M, D]: values
/// [N, k], in no order, and the rows of the bank [N, k] int64. Exact; by products of blocks with a
/// running best, so that N x M numbers never exist. One floating type, float32 or float64, k <= M.
/// The same in any number of threads.
std::pair<at::Tensor, at::Tensor> largest_products(const at::Tensor& queries,
                                                   const at::Tensor& bank, std::int64_t k);

}  // namespace ood
