#include "ood/data/exif.h"

#include <cstdint>
#include <cstring>

#include "ood/torch.h"

namespace ood {
namespace {

constexpr std::uint32_t kOrientation = 0x0112, kShort = 3;
constexpr std::size_t kEntry = 12;

// Numbers of a TIFF block in its byte order; 0 beyond its end.
struct Tiff {
  const unsigned char* data;
  std::size_t size;
  bool little;

  std::uint32_t number(std::size_t at, std::size_t bytes) const {
    if (at > size || bytes > size - at) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value = value << 8 | data[at + (little ? bytes - 1 - i : i)];
    return value;
  }
};

}  // namespace

int exif_orientation(const unsigned char* data, std::size_t size) {
  constexpr char kStart[] = "Exif\0";  // and a second zero
  if (size < 14 || std::memcmp(data, kStart, sizeof kStart) != 0) return 1;
  const Tiff tiff{data + sizeof kStart, size - sizeof kStart, data[sizeof kStart] == 'I'};
  const std::size_t directory = tiff.number(4, 4);
  const std::uint32_t entries = tiff.number(directory, 2);
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t at = directory + 2 + i * kEntry;
    if (at >= tiff.size) return 1;
    if (tiff.number(at, 2) != kOrientation || tiff.number(at + 2, 2) != kShort) continue;
    const auto value = tiff.number(at + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

at::Tensor upright(const at::Tensor& picture, int orientation) {
  if (orientation < 2 || orientation > 8) return picture;
  static const std::vector<std::int64_t> kFlipped[] = {{}, {2}, {1, 2}, {1}};
  return (orientation > 4 ? picture.transpose(1, 2) : picture)
      .flip(kFlipped[(orientation - 1) % 4]);
}

}  // namespace ood
