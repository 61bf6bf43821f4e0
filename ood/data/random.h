#pragma once

#include <cstdint>
#include <vector>

/// Every random number of a training is a function of seed, purpose and indices, so that neither
/// threads nor an interruption change it.
namespace ood {

enum class Purpose : std::uint64_t {
  kSplit = 1,
  kShuffle,
  kOutliers,
  kBootstrap,
  kWeights,
  kMixing,
  kSynthetic,
  kAugment,
  kHeldOut,
  kBalance
};

/// 64 random bits for a purpose and up to two indices (say epoch and sample).
std::uint64_t random_bits(std::uint64_t seed, Purpose purpose, std::uint64_t major,
                          std::uint64_t minor);

/// A random order of 0 .. n-1.
std::vector<std::int64_t> permutation(std::int64_t n, std::uint64_t seed, Purpose purpose,
                                      std::uint64_t major);

}  // namespace ood
