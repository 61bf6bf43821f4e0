#pragma once

#include <cstdint>

/// Numbers of 16 bits to float and back, rounded to the nearest, ties to even; NaN stays NaN.
namespace ood::kernels {

enum class HalfType { kFloat16, kBFloat16 };

void widen(HalfType type, const std::uint16_t* from, std::int64_t n, float* to);
void narrow(HalfType type, const float* from, std::int64_t n, std::uint16_t* to);

}  // namespace ood::kernels
