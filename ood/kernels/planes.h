#pragma once

#include <cstdint>

/// Decoders write pixels one after another, networks read one colour after another.
namespace ood::kernels {

/// Colour c of pixel i, from pixels[3 * i + c] to planes[c * n + i].
void pixels_to_planes(const std::uint8_t* pixels, std::int64_t n, std::uint8_t* planes);

}  // namespace ood::kernels
