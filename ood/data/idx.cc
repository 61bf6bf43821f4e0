#include "ood/data/idx.h"

#include <torch/torch.h>
#include <zlib.h>

#include <array>
#include <memory>

#include "ood/errors.h"

namespace ood {
namespace {

struct Close {
  void operator()(gzFile f) const { gzclose(f); }
};
// zlib reads a plain file as it is and unpacks a gzip file, telling them apart by itself.
using File = std::unique_ptr<std::remove_pointer_t<gzFile>, Close>;

std::int64_t read_bytes(gzFile f, void* to, std::int64_t n) {
  return static_cast<std::int64_t>(gzfread(to, 1, static_cast<std::size_t>(n), f));
}

constexpr unsigned char kUnsignedByte = 0x08;

bool good_magic(const std::array<unsigned char, 4>& m) {
  return m[0] == 0 && m[1] == 0 && m[2] == kUnsignedByte && m[3] >= 1 && m[3] <= 4;
}

}  // namespace

at::Tensor read_idx(const std::filesystem::path& path) {
  const std::string name = path.string();
  const File file(gzopen(name.c_str(), "rb"));
  if (!file) throw DataError(name + ": cannot be opened");
  std::array<unsigned char, 4> magic{};
  if (read_bytes(file.get(), magic.data(), 4) != 4 || !good_magic(magic))
    throw DataError(
        name + ": expected an idx file of unsigned bytes (it starts 00 00 08), got something else");
  std::vector<std::int64_t> shape;
  std::int64_t total = 1;
  for (int d = 0; d < magic[3]; ++d) {
    std::array<unsigned char, 4> b{};
    if (read_bytes(file.get(), b.data(), 4) != 4)
      throw DataError(name + ": truncated: the file ends inside its header");
    shape.push_back((std::int64_t{b[0]} << 24) | (b[1] << 16) | (b[2] << 8) | b[3]);
    constexpr std::int64_t kLongestSide = 1 << 16;
    if (d > 0 && shape.back() > kLongestSide)
      throw DataError(name + ": the header has a side of " + std::to_string(shape.back()) +
                      "; the file is damaged");
    // A damaged header must not ask for the machine's memory.
    if (shape.back() > 0 && total > (std::int64_t{1} << 36) / shape.back())
      throw DataError(name + ": the header asks for more than 64 GiB; the file is damaged");
    total *= shape.back();
  }
  // What a few bytes unpack to a thousandfold is no data set.
  std::error_code error;
  const bool plain = gzdirect(file.get()) != 0;
  const std::int64_t header = plain ? 4 * (1 + std::int64_t{magic[3]}) : 0;
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path, error)) - header;
  constexpr std::int64_t kMostUnpacked = std::int64_t{1} << 28;
  if (!error && (plain ? total > size : total > kMostUnpacked && total / 200 > size))
    throw DataError(name + ": truncated: the header promises " + std::to_string(total) +
                    " bytes, the file has " + std::to_string(size) +
                    (plain ? "" : " compressed ones"));
  auto data = torch::empty(shape, torch::kUInt8);
  const std::int64_t got = read_bytes(file.get(), data.data_ptr(), total);
  if (got != total)
    throw DataError(name + ": truncated: the header promises " + std::to_string(total) +
                    " bytes, the file has " + std::to_string(got));
  unsigned char more = 0;
  const bool longer = read_bytes(file.get(), &more, 1) == 1;
  int state = Z_OK;
  gzerror(file.get(), &state);
  if (longer || (state != Z_OK && state != Z_STREAM_END))
    throw DataError(name + (longer ? ": has bytes beyond the " + std::to_string(total) +
                                         " that its header promises"
                                   : ": truncated or damaged: its end is not that of a gzip file"));
  return data;
}

}  // namespace ood
