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

/// Whether these were there when the program was built.
bool has_webp();
bool has_tiff();

/// Why a picture of that size is not decoded; "": it is. Without a destructor to run, for decoders
/// that leave by a jump.
constexpr std::size_t kWhy = 200;
bool fits(std::int64_t height, std::int64_t width, std::int64_t max_pixels, char (&why)[kWhy]);

/// [C, H, W] over the decoder's own rows, which the resizing reads faster than any other layout.
at::Tensor over_rows(std::vector<unsigned char> pixels, std::int64_t height, std::int64_t width,
                     std::int64_t channels);

/// Rows of red, green, blue and alpha, before a colour 0xRRGGBB, as rows of three; alpha may have
/// been multiplied into the others.
std::vector<unsigned char> before_colour(const std::vector<unsigned char>& rgba,
                                         std::uint32_t colour, bool multiplied);

/// A DataError: "PATH: does not decode as FORMAT: WHY".
[[noreturn]] void fail(const Encoded& file, const char* format, const std::string& why);

}  // namespace ood::decoders
