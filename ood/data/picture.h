#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace ood {

/// Pixels of a picture at most, where nothing else is asked for.
inline constexpr std::int64_t kMaxPixels = 100'000'000;

/// What pictures are brought to.
struct PictureSize {
  std::int64_t height = 0, width = 0;  ///< 0: as they are
  bool crop = false;                   ///< by cutting off what is too long, not by squashing

  bool given() const { return height > 0; }
};

/// Reads a PNG or JPEG file as uint8 [1 or 3, height, width], grey or RGB, brought to `size` where
/// one is given, in whatever layout. 16-bit PNG is reduced to 8 bits, transparency is put on black, and a JPEG stands as
/// its Exif block says; one that is to become much smaller is decoded at a reduced size. DataError
/// says why a file does not decode, or that it has more than `max_pixels`: a small file may promise
/// more than the memory holds, so its header is looked at before any pixel is allocated.
at::Tensor read_picture(const std::filesystem::path& path, std::int64_t max_pixels = kMaxPixels,
                        const PictureSize& size = {});

/// Whether the file's name ends like that of a picture: .png, .jpg or .jpeg.
bool is_picture_name(const std::filesystem::path& path);

/// Pictures [N, C, H, W] at another size, bilinear with antialiasing; where they are to be cropped
/// they keep their shape, and what is beyond the middle part is cut off.
at::Tensor brought_to(const at::Tensor& pictures, const PictureSize& size);

/// Pictures with that many channels, 1 or 3: grey repeated, or the luma of ITU-R BT.601.
at::Tensor with_channels(const at::Tensor& pictures, std::int64_t channels);

}  // namespace ood
