#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "ood/data/picture_file.h"

namespace ood {

/// Pixels of a picture at most, where nothing else is asked for.
inline constexpr std::int64_t kMaxPixels = 100'000'000;

/// What pictures are brought to.
struct PictureSize {
  std::int64_t height = 0, width = 0;  ///< 0: as they are
  bool crop = false;                   ///< by cutting off what is too long, not by squashing

  bool given() const { return height > 0; }
};

/// How a picture is read.
struct PictureReading {
  PictureSize size{};                     ///< that it is brought to
  std::int64_t max_pixels = kMaxPixels;   ///< a picture of more does not decode
  std::optional<std::uint32_t> behind{};  ///< 0xRRGGBB that shows where it is transparent; black
};

/// Reads a PNG, JPEG, WebP or TIFF file (the last two where their libraries were there when this was
/// built) as uint8 [1 or 3, height, width], grey or RGB, in whatever layout. 16 bits are reduced to
/// 8, and a picture stands as its Exif block (not PNG) or tag says; a JPEG that is to become much smaller is
/// decoded at a reduced size. DataError says why a file does not decode: a small file may promise
/// more pixels than the memory holds, so its header is looked at before any is allocated.
at::Tensor read_picture(const PictureFile& file, const PictureReading& how = {});

/// Copies a picture, as read_picture or brought_to gave it, to its place [C, H, W] among others,
/// contiguous and of as many channels.
void put_picture(const at::Tensor& picture, const at::Tensor& place);

/// "black", "white" or RRGGBB in hexadecimal -> 0xRRGGBB; UsageError.
std::uint32_t parse_colour(const std::string& text);

/// Whether the file's name ends like that of a picture that can be read: .png, .jpg, .jpeg, .webp,
/// .tif, .tiff.
bool is_picture_name(const std::filesystem::path& path);

/// Pictures [N, C, H, W] at another size, bilinear with antialiasing; where they are to be cropped
/// they keep their shape, and what is beyond the middle part is cut off.
at::Tensor brought_to(const at::Tensor& pictures, const PictureSize& size);

/// Pictures with that many channels, 1 or 3: grey repeated, or the luma of ITU-R BT.601.
at::Tensor with_channels(const at::Tensor& pictures, std::int64_t channels);

}  // namespace ood
