#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace ood {

/// FNV-1a of bytes: tells contents apart, and is no protection against intent.
inline constexpr std::uint64_t kFnvStart = 14695981039346656037u, kFnvPrime = 1099511628211u;

inline std::uint64_t fnv1a(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint64_t h = kFnvStart;
  for (std::size_t i = 0; i < size; ++i) h = (h ^ bytes[i]) * kFnvPrime;
  return h;
}

inline std::string hexadecimal(std::uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

}  // namespace ood
