#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace ood::test {

/// A folder of its own that disappears with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ood-test-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// An idx file of that shape; byte i is i * step modulo 256, or 0 .. classes-1 in turn for labels.
inline std::string idx_bytes(const std::vector<int>& shape, int step, int modulus = 256) {
  std::string bytes{'\0', '\0', '\x08', static_cast<char>(shape.size())};
  std::size_t total = 1;
  for (const int s : shape) {
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(s >> shift & 255);
    total *= static_cast<std::size_t>(s);
  }
  for (std::size_t i = 0; i < total; ++i)
    bytes +=
        static_cast<char>(i * static_cast<std::size_t>(step) % static_cast<std::size_t>(modulus));
  return bytes;
}

/// A folder with training and test pictures of 8x8 in that many classes.
inline void write_dataset(const std::filesystem::path& folder, int train, int test, int classes) {
  std::filesystem::create_directories(folder);
  write_bytes(folder / "train-images-idx3-ubyte", idx_bytes({train, 8, 8}, 7));
  write_bytes(folder / "train-labels-idx1-ubyte", idx_bytes({train}, 1, classes));
  write_bytes(folder / "t10k-images-idx3-ubyte", idx_bytes({test, 8, 8}, 5));
  write_bytes(folder / "t10k-labels-idx1-ubyte", idx_bytes({test}, 1, classes));
}

}  // namespace ood::test
