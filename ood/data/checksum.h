#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

namespace ood {

/// CRC-32, which Python has as well, as eight digits.
class Checksum {
 public:
  void add(const void* data, std::size_t size);
  std::string text() const;

 private:
  std::uint32_t crc_ = 0;
};

/// Of the content of a file, or of its first bytes; DataError where it cannot be read.
std::string checksum_of(const std::filesystem::path& file,
                        std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max());

}  // namespace ood
