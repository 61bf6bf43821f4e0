#pragma once

#include <cmath>
#include <cstdint>

namespace ood {

/// Learning rate of a step, 0 <= step < total: rises linearly over the first `warmup` share of the
/// steps, then falls as a half cosine to 0.
inline double cosine_lr(double peak, double warmup, std::int64_t step, std::int64_t total) {
  const auto t = static_cast<double>(step), n = static_cast<double>(total);
  const double rising = warmup * n;
  if (t + 1 <= rising) return peak * (t + 1) / rising;
  const double rest = std::max(n - rising, 1.0);
  return peak * 0.5 * (1 + std::cos(3.14159265358979323846 * (t - rising) / rest));
}

}  // namespace ood
