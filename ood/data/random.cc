#include "ood/data/random.h"

#include <ATen/core/PhiloxRNGEngine.h>

#include <algorithm>
#include <numeric>

namespace ood {

std::uint64_t random_bits(std::uint64_t seed, Purpose purpose, std::uint64_t major,
                          std::uint64_t minor) {
  at::Philox4_32 engine(seed, (static_cast<std::uint64_t>(purpose) << 48) ^ major, minor);
  const std::uint64_t high = engine();
  return (high << 32) | engine();
}

std::vector<std::int64_t> permutation(std::int64_t n, std::uint64_t seed, Purpose purpose,
                                      std::uint64_t major) {
  std::vector<std::uint64_t> key(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    key[static_cast<std::size_t>(i)] =
        random_bits(seed, purpose, major, static_cast<std::uint64_t>(i));
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto ka = key[static_cast<std::size_t>(a)], kb = key[static_cast<std::size_t>(b)];
    return ka != kb ? ka < kb : a < b;
  });
  return order;
}

}  // namespace ood
