#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

/// Changes of single pictures, uint8 [C, H, W] of 1 or 3 channels, C contiguous. Their numbers are
/// those of Pillow (ImageEnhance, ImageOps, Image.transform), which users know them from.
namespace ood::changes {

/// x + (other - x) (1 - factor), cut off at 0 and 255: factor 1 is the picture.
at::Tensor brightness(const at::Tensor& x, double factor);  ///< other: black
at::Tensor contrast(const at::Tensor& x, double factor);    ///< other: its mean grey
at::Tensor saturation(const at::Tensor& x, double factor);  ///< other: the same in grey
at::Tensor sharpness(const at::Tensor& x, double factor);   ///< other: smoothed

/// Keeps so many upper bits of 8.
at::Tensor posterize(const at::Tensor& x, int bits);
/// Inverts what is at or above a threshold.
at::Tensor solarize(const at::Tensor& x, int threshold);
/// Stretches each channel to 0 .. 255.
at::Tensor autocontrast(const at::Tensor& x);
/// Makes the values of each channel equally frequent.
at::Tensor equalize(const at::Tensor& x);

/// The pixel of (column, row) from (a column + b row + c, d column + e row + f), the nearest, for
/// the centers of pixels; black beyond the edge.
at::Tensor affine(const at::Tensor& x, const std::array<double, 6>& from);

/// A rectangle, brought to the size of the picture.
at::Tensor resized_part(const at::Tensor& x, std::int64_t top, std::int64_t left,
                        std::int64_t height, std::int64_t width);
/// A rectangle filled with the mean of each channel.
at::Tensor erased(const at::Tensor& x, std::int64_t top, std::int64_t left, std::int64_t height,
                  std::int64_t width);

}  // namespace ood::changes
