#include "ood/scores/quantile.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <type_traits>
#include <vector>

#include "ood/ops/by_type.h"

namespace ood {
namespace {

constexpr int kBits = 16;  // of a key that is counted

// The leading bits of a number, such that they order as the numbers do.
template <class F>
std::size_t key(F x) {
  using U = std::conditional_t<sizeof(F) == 4, std::uint32_t, std::uint64_t>;
  const U bits = std::bit_cast<U>(x), sign = U{1} << (sizeof(F) * 8 - 1);
  return static_cast<std::size_t>((bits & sign ? ~bits : bits | sign) >> (sizeof(F) * 8 - kBits));
}

// The numbers of rank r and r + 1 are among those of one or two keys, and only these are ordered.
template <class F>
double select(const F* x, std::size_t n, double q) {
  std::vector<std::size_t> counts(std::size_t{1} << kBits, 0);
  std::mutex mutex;
  at::parallel_for(0, static_cast<std::int64_t>(n), 1 << 20, [&](auto begin, auto end) {
    std::vector<std::size_t> own(counts.size(), 0);
    for (auto i = begin; i < end; ++i) ++own[key(x[i])];
    const std::lock_guard lock(mutex);
    for (std::size_t k = 0; k < own.size(); ++k) counts[k] += own[k];
  });
  const double at = q * static_cast<double>(n - 1);
  const auto low = static_cast<std::size_t>(at), high = std::min(low + 1, n - 1);
  std::size_t before = 0, first = 0, last = 0, below = 0;
  bool found = false;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    if (!found && before + counts[k] > low) first = k, below = before, found = true;
    before += counts[k];
    if (before > high) {
      last = k;
      break;
    }
  }
  std::vector<F> near;
  at::parallel_for(0, static_cast<std::int64_t>(n), 1 << 20, [&](auto begin, auto end) {
    std::vector<F> own;
    for (auto i = begin; i < end; ++i)
      if (const auto k = key(x[i]); k >= first && k <= last) own.push_back(x[i]);
    const std::lock_guard lock(mutex);
    near.insert(near.end(), own.begin(), own.end());
  });
  std::sort(near.begin(), near.end());
  const double a = near[low - below], b = near[high - below];
  return a + (at - static_cast<double>(low)) * (b - a);
}

}  // namespace

double quantile_of(const at::Tensor& numbers, double q) {
  TORCH_CHECK_VALUE(numbers.numel() > 0, "quantile: expected numbers, got none");
  const auto flat = numbers.contiguous();
  return ops::by_type(flat, "quantile", [&](auto zero) {
    using F = decltype(zero);
    return select(flat.const_data_ptr<F>(), static_cast<std::size_t>(flat.numel()), q);
  });
}

}  // namespace ood
