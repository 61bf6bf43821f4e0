#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ood {

// A store keeps bytes.
inline std::string text_of(const std::vector<std::uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}
inline std::vector<std::uint8_t> bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

}  // namespace ood
