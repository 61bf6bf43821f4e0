#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

namespace ood {

/// The orientation, 1 to 8, that the Exif block of a JPEG names (CIPA DC-008, tag 0x0112), where
/// `data` is the content of its APP1 marker; 1, upright, where it names none or is damaged. Runs no
/// destructors, so that it may stand beside libjpeg's jumps.
int exif_orientation(const unsigned char* data, std::size_t size);

/// A picture [C, H, W] stored with that orientation, as it is to be looked at; by others upright.
at::Tensor upright(const at::Tensor& picture, int orientation);

}  // namespace ood
