#include "ood/data/checksum.h"

#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <vector>

#include "ood/errors.h"

namespace ood {

void Checksum::add(const void* data, std::size_t size) {
  crc_ = static_cast<std::uint32_t>(::crc32_z(crc_, static_cast<const unsigned char*>(data), size));
}

std::string Checksum::text() const {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", crc_);
  return text;
}

std::string checksum_of(const std::filesystem::path& file, std::uint64_t bytes) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw DataError(file.string() + ": cannot be read");
  Checksum sum;
  std::vector<char> block(1 << 20);
  while (bytes > 0 && in) {
    in.read(block.data(),
            static_cast<std::streamsize>(std::min<std::uint64_t>(bytes, block.size())));
    sum.add(block.data(), static_cast<std::size_t>(in.gcount()));
    bytes -= static_cast<std::uint64_t>(in.gcount());
  }
  if (in.bad()) throw DataError(file.string() + ": cannot be read");
  return sum.text();
}

}  // namespace ood
