#pragma once

#include <functional>
#include <string>

#include "ood/kernels/simd_level.h"

namespace ood::test {

/// Runs `body` at every SIMD level of this processor and restores the level.
inline void at_every_level(const std::function<void(const std::string&)>& body) {
  const auto before = kernels::simd_level();
  for (const auto level : kernels::available_simd_levels()) {
    kernels::set_simd_level(level);
    body(std::string(kernels::name(level)));
  }
  kernels::set_simd_level(before);
}

/// Widths around every vector length, and the sizes that real data has.
inline constexpr int kWidths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 1000};

}  // namespace ood::test
