#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>

/// What distances and their gradients share: how work is cut, and when a matrix product pays.
namespace ood::ops {

/// Multiplications from which on a look for anchors, or a product, pays. What is done for each of
/// the N K pairs is not less with less than 16 numbers.
inline constexpr std::int64_t kLarge = 1 << 21;
inline constexpr std::int64_t kBlock = 64;

inline bool is_large(std::int64_t n, std::int64_t k, std::int64_t d) {
  return n * k * std::max<std::int64_t>(d, 16) >= kLarge;
}

inline std::int64_t rows_per_task(std::int64_t work) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(work, 1));
}

template <class F>
F sum_of(const F* values, std::int64_t n) {
  std::array<F, 8> lanes{};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) lanes[l] += values[i + static_cast<std::int64_t>(l)];
  for (; i < n; ++i) lanes[0] += values[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/// Calls body(begin, end) for blocks of rows. Blocks from both ends in turn, so that threads have
/// as much to do where the work of a block falls with its number.
template <class Body>
void for_each_block(std::int64_t rows, const Body& body) {
  const std::int64_t blocks = (rows + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (auto i = first; i < last; ++i) {
      const auto b = i % 2 == 0 ? i / 2 : blocks - 1 - i / 2;
      body(b * kBlock, std::min((b + 1) * kBlock, rows));
    }
  });
}

/// a [N, K] times b [K, D]; calls finish(begin, end, rows) for blocks of rows of the product, which
/// are in `rows` [end - begin, D]. The product is cut into pieces by its size alone, each the work
/// of one thread, and those of one row are added up in order: the number of threads changes no bit.
at::Tensor product(
    const at::Tensor& a, const at::Tensor& b,
    const std::function<void(std::int64_t begin, std::int64_t end, at::Tensor& rows)>& finish);

}  // namespace ood::ops
