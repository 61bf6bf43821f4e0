#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>

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
void for_each_block(std::int64_t rows, const Body& body, std::int64_t in_block = kBlock) {
  const std::int64_t blocks = (rows + in_block - 1) / in_block;
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (auto i = first; i < last; ++i) {
      const auto b = i % 2 == 0 ? i / 2 : blocks - 1 - i / 2;
      body(b * in_block, std::min((b + 1) * in_block, rows));
    }
  });
}

/// Rows of a block of a matrix product. A product is cut into blocks by its size alone, each the
/// work of one thread, so that the number of threads changes no bit; small blocks would pack the
/// other factor too often.
inline std::int64_t rows_of_product(std::int64_t rows) {
  constexpr std::int64_t kBlocks = 8, kMost = 512;
  return std::clamp((rows / kBlocks + kBlock - 1) / kBlock * kBlock, kBlock, kMost);
}

/// Anchors on the axes, m times the identity: what class anchor clustering starts with. All
/// distances of a row are then O(K) work. Returns m, or 0 for other centers; those end the search
/// at once.
double axis_anchors(const at::Tensor& centers);

}  // namespace ood::ops
