#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ood/data/picture.h"

/// The decoders behind read_picture, one a format and file.
namespace ood::decoders {

/// A file in memory, and how it is to be read.
struct Encoded {
  const std::filesystem::path& path;
  const std::vector<unsigned char>& bytes;
  const PictureReading& how;

  bool begins_with(const char* text, std::size_t size, std::size_t at = 0) const;
};

/// uint8 [C, H, W], 1 or 3 channels. DataError names the path and says why it does not decode.
at::Tensor png(const Encoded& file);
at::Tensor jpeg(const Encoded& file);
at::Tensor webp(const Encoded& file);
at::Tensor tiff(const Encoded& file);

/// Bytes that a picture of so many pixels may take in a file or before it is reduced: 16 bits of
/// four channels each, and what is said of it beside them.
std::int64_t most_bytes(std::int64_t pixels);

/// Whether a picture of that size is decoded, and why not. Without a destructor to run, for
/// decoders that leave by a jump.
constexpr std::size_t kWhy = 200;
bool fits(std::int64_t height, std::int64_t width, std::int64_t max_pixels, char (&why)[kWhy]);

/// The same for the others: a DataError.
void check_size(const Encoded& file, std::int64_t height, std::int64_t width);

/// [C, H, W] over the decoder's own rows, which the resizing reads faster than any other layout.
at::Tensor over_rows(std::vector<unsigned char> pixels, std::int64_t height, std::int64_t width,
                     std::int64_t channels);

/// What alpha is to the other channels.
enum class Alpha { kNone, kApart, kMultiplied };

/// Pixels of red, green, blue and alpha as they show before a colour 0xRRGGBB, of three channels.
std::vector<unsigned char> before_colour(const unsigned char* rgba, std::size_t pixels,
                                         std::uint32_t colour, Alpha alpha);

/// Whether grey pictures stay grey before it.
bool is_grey(std::uint32_t colour);

/// A DataError: "PATH: does not decode as FORMAT: WHY".
[[noreturn]] void fail(const Encoded& file, const char* format, const std::string& why);

}  // namespace ood::decoders
