#include "ood/metrics/threshold.h"

#include <algorithm>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace ood {
namespace {

// What rounding may add to a probability that is asked to be at most another.
constexpr double kSlack = 1e-9;

void check_share(const char* what, double v) {
  if (v > 0 && v < 1) return;
  std::ostringstream text;
  text << what << ": expected a share between 0 and 1, got " << v;
  throw std::invalid_argument(text.str());
}

// The p at which P(Bin(n, p) <= m), which falls with p, is `level`, of m < n.
double where_cdf_is(double level, std::int64_t m, std::int64_t n) {
  return boost::math::ibeta_inv(static_cast<double>(m + 1), static_cast<double>(n - m), 1 - level);
}

}  // namespace

// P(Bin(n, p) <= m) is added up term by term.
std::int64_t allowed_above(std::int64_t n, double false_alarms, double confidence) {
  const double level = (1 - confidence) * (1 + kSlack), log_not = std::log1p(-false_alarms);
  double log_term = static_cast<double>(n) * log_not, sum = 0;
  for (std::int64_t m = 0; m < n; ++m) {
    sum += std::exp(log_term);
    if (sum > level) return m - 1;
    log_term += std::log(static_cast<double>(n - m) / static_cast<double>(m + 1)) +
                std::log(false_alarms) - log_not;
  }
  return n - 1;
}

double least_false_alarms(std::int64_t n, double confidence) {
  return -std::expm1(std::log(1 - confidence) / static_cast<double>(n));
}

std::int64_t held_out_needed(double false_alarms, double confidence) {
  check_share("false_alarms", false_alarms);
  check_share("confidence", confidence);
  const double n = std::log(1 - confidence) / std::log1p(-false_alarms);
  return static_cast<std::int64_t>(std::ceil(std::min(n, 1e15) * (1 - kSlack)));
}

Threshold threshold_for(std::span<const double> held_out, double false_alarms, double confidence) {
  const auto needed = held_out_needed(false_alarms, confidence);
  const auto n = static_cast<std::int64_t>(held_out.size());
  if (n < needed) {
    std::ostringstream text;
    text << "false_alarms " << false_alarms << " with confidence " << confidence
         << ": expected at least " << needed << " held-out scores, got " << n;
    throw std::invalid_argument(text.str());
  }
  std::vector<double> sorted(held_out.begin(), held_out.end());
  if (std::any_of(sorted.begin(), sorted.end(), [](double v) { return std::isnan(v); }))
    throw std::invalid_argument("threshold: expected scores, got NaN");
  std::sort(sorted.begin(), sorted.end());
  const auto m = std::clamp<std::int64_t>(allowed_above(n, false_alarms, confidence), 0, n - 1);
  const double value = sorted[static_cast<std::size_t>(n - m - 1)];
  // Ties at the threshold are accepted, too.
  const auto above = sorted.end() - std::upper_bound(sorted.begin(), sorted.end(), value);
  return {value, n, above, above == 0 ? 0 : where_cdf_is(0.975, above - 1, n),
          where_cdf_is(0.025, above, n)};
}

}  // namespace ood
