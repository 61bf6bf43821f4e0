#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace ood::ops {

/// a [N, K] times b [K, D]; calls finish(begin, end, rows) for blocks of rows of the product, which
/// are in `rows` [end - begin, D]. The product is cut into pieces by its size alone, each the work
/// of one thread, and those of one row are added up in order: the number of threads changes no bit.
at::Tensor product(
    const at::Tensor& a, const at::Tensor& b,
    const std::function<void(std::int64_t begin, std::int64_t end, at::Tensor& rows)>& finish);

}  // namespace ood::ops
