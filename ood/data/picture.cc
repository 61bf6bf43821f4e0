#include "ood/data/picture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "ood/data/files.h"
#include "ood/data/picture_decoder.h"
#include "ood/errors.h"
#include "ood/kernels/planes.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

// A side beyond this is a damaged header.
constexpr std::int64_t kMaxSide = 1 << 16;

// The content of a file or of its stretch of an archive, in one read.
std::vector<unsigned char> content(const PictureFile& picture, std::int64_t max_pixels) {
  const std::string name = picture.path.string();
  // A pipe of that name would wait for somebody to write into it.
  const OpenFile file(::open(picture.opened().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat about {};
  if (file.fd < 0 || ::fstat(file.fd, &about) != 0 || !S_ISREG(about.st_mode))
    throw DataError(name + ": cannot be opened");
  const auto size =
      picture.archive.empty() ? static_cast<std::uint64_t>(about.st_size) : picture.bytes;
  if (size > static_cast<std::uint64_t>(decoders::most_bytes(max_pixels)))
    throw DataError(name + ": a file of " + std::to_string(size) +
                    " bytes; expected a picture of at most " + std::to_string(max_pixels) +
                    " pixels (`max-pixels`)");
  std::vector<unsigned char> bytes(size);
  std::size_t n = 0;
  for (ssize_t part = 1; n < bytes.size() && part > 0; n += static_cast<std::size_t>(part)) {
    part =
        ::pread(file.fd, bytes.data() + n, bytes.size() - n, static_cast<off_t>(picture.begin + n));
    if (part < 0) throw DataError(name + ": cannot be read");
  }
  bytes.resize(n);
  return bytes;
}

// By content: a wrong ending is a common mistake and harmless.
at::Tensor decoded(const decoders::Encoded& file) {
  if (file.begins_with("\x89PNG\r\n\x1a\n", 8)) return decoders::png(file);
  if (file.begins_with("\xff\xd8\xff", 3)) return decoders::jpeg(file);
  if (file.begins_with("RIFF", 4) && file.begins_with("WEBP", 4, 8)) return decoders::webp(file);
  // "*" of 32-bit places, "+" of 64-bit ones.
  for (const char* start : {"II*\0", "MM\0*", "II+\0", "MM\0+"})
    if (file.begins_with(start, 4)) return decoders::tiff(file);
  throw DataError(file.path.string() +
                  ": expected a PNG, JPEG, WebP or TIFF picture, got something else");
}

}  // namespace

namespace decoders {

bool fits(std::int64_t height, std::int64_t width, std::int64_t max_pixels, char (&why)[kWhy]) {
  if (height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide &&
      height * width <= max_pixels)
    return true;
  std::snprintf(why, sizeof why, "a picture of %ldx%ld pixels; expected at most %ld (`max-pixels`)",
                static_cast<long>(width), static_cast<long>(height), static_cast<long>(max_pixels));
  return false;
}

at::Tensor over_rows(std::vector<unsigned char> pixels, std::int64_t height, std::int64_t width,
                     std::int64_t channels) {
  auto* owner = new std::vector<unsigned char>(std::move(pixels));
  return torch::from_blob(
             owner->data(), {height, width, channels}, [owner](void*) { delete owner; },
             torch::kUInt8)
      .permute({2, 0, 1});
}

bool Encoded::begins_with(const char* text, std::size_t size, std::size_t at) const {
  return bytes.size() >= at + size && std::memcmp(bytes.data() + at, text, size) == 0;
}

std::vector<unsigned char> before_colour(const unsigned char* rgba, std::size_t pixels,
                                         std::uint32_t colour, Alpha alpha) {
  constexpr unsigned kFull = 255;
  std::vector<unsigned char> rgb(3 * pixels);
  for (std::size_t i = 0; i < pixels; ++i) {
    const unsigned share = alpha == Alpha::kNone ? kFull : rgba[4 * i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const unsigned own = rgba[4 * i + c] * (alpha == Alpha::kMultiplied ? kFull : share);
      const unsigned back = colour >> (16 - 8 * c) & 0xff;
      const unsigned sum = (own + back * (kFull - share) + kFull / 2) / kFull;
      rgb[3 * i + c] = static_cast<unsigned char>(std::min(sum, kFull));
    }
  }
  return rgb;
}

bool is_grey(std::uint32_t colour) {
  return (colour >> 16) == (colour & 0xff) && (colour >> 8 & 0xff) == (colour & 0xff);
}

std::int64_t most_bytes(std::int64_t pixels) {
  constexpr std::int64_t kBytes = 8, kBeside = 16 << 20;
  return kBytes * pixels + kBeside;
}

void check_size(const Encoded& file, std::int64_t height, std::int64_t width) {
  char why[kWhy];
  if (!fits(height, width, file.how.max_pixels, why))
    throw DataError(file.path.string() + ": " + why);
}

void fail(const Encoded& file, const char* format, const std::string& why) {
  throw DataError(file.path.string() + ": does not decode as " + format + ": " + why);
}

}  // namespace decoders

std::uint32_t parse_colour(const std::string& text) {
  if (text == "black") return 0;
  if (text == "white") return 0xffffff;
  std::uint32_t value = 0;
  const auto* end = text.data() + text.size();
  constexpr int kHexadecimal = 16;
  const auto [last, error] = std::from_chars(text.data(), end, value, kHexadecimal);
  if (text.size() != 6 || error != std::errc() || last != end)
    throw UsageError("`alpha`: expected black, white or RRGGBB (hexadecimal), got \"" + text +
                     "\"");
  return value;
}

bool is_picture_name(const fs::path& path) {
  const std::string end = lower(path.extension().string());
  for (const char* known : {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})
    if (end == known) return true;
  return false;
}

at::Tensor read_picture(const PictureFile& file, const PictureReading& how) {
  const auto bytes = content(file, how.max_pixels);
  const at::Tensor picture = decoded({file.path, bytes, how});
  return how.size.given() ? brought_to(picture.unsqueeze(0), how.size)[0] : picture;
}

void put_picture(const at::Tensor& picture, const at::Tensor& place) {
  const auto h = picture.size(1), w = picture.size(2);
  // As it left the decoder, torch copies byte by byte: a fifth of the time a file takes.
  if (picture.size(0) == 3 && place.sizes() == picture.sizes() && place.is_contiguous() &&
      picture.strides() == at::IntArrayRef({1, 3 * w, 3}))
    kernels::pixels_to_planes(picture.const_data_ptr<std::uint8_t>(), h * w,
                              place.mutable_data_ptr<std::uint8_t>());
  else
    place.copy_(picture);
}

at::Tensor brought_to(const at::Tensor& pictures, const PictureSize& size) {
  const auto h = pictures.size(2), w = pictures.size(3);
  if (h == size.height && w == size.width) return pictures;
  auto height = size.height, width = size.width;
  if (size.crop) {
    // The smallest size of the same shape that covers the wanted one.
    const double scale = std::max(static_cast<double>(height) / static_cast<double>(h),
                                  static_cast<double>(width) / static_cast<double>(w));
    const auto side = [&](std::int64_t n, std::int64_t wanted) {
      return std::max<std::int64_t>(std::llround(static_cast<double>(n) * scale), wanted);
    };
    height = side(h, height);
    width = side(w, width);
  }
  const auto all = h == height && w == width
                       ? pictures
                       : at::_upsample_bilinear2d_aa(pictures, {height, width},
                                                     /*align_corners=*/false);
  return all.narrow(2, (height - size.height) / 2, size.height)
      .narrow(3, (width - size.width) / 2, size.width)
      .contiguous();
}

at::Tensor with_channels(const at::Tensor& pictures, std::int64_t channels) {
  const auto has = pictures.size(1);
  if (has == channels) return pictures;
  if (std::min(channels, has) != 1 || std::max(channels, has) != 3)
    throw DataError("expected pictures of " + std::to_string(channels) + " channels, got " +
                    std::to_string(has));
  if (channels == 3) return pictures.expand({-1, 3, -1, -1}).contiguous();
  const auto luma = torch::tensor({0.299f, 0.587f, 0.114f}).view({1, 3, 1, 1});
  return pictures.to(torch::kFloat).mul(luma).sum(1, true).round_().to(torch::kUInt8);
}

}  // namespace ood
