#pragma once

#include <algorithm>
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

}  // namespace ood::ops
