#pragma once

#include <cstdint>
#include <span>

/// Thresholds of scores (higher for OOD) by held-out ID data, with a promise that holds for any
/// distribution of scores: they are order statistics, and how much of a distribution lies above
/// one is Beta distributed (Wilks 1941).
namespace ood {

struct Threshold {
  double value;           ///< accept at or below
  std::int64_t held_out;  ///< ID scores it was set by
  std::int64_t above;     ///< of them, how many it rejects
  double low, high;       ///< 95 % interval of the share of ID data that it rejects
};

/// The lowest of the scores that rejects more than a share `false_alarms` of ID data, exchangeable
/// with the held-out one, with probability 1 - confidence at most. Void where ID data drifts, or
/// where the scores were fitted to the held-out data. std::invalid_argument where a share is not
/// between 0 and 1, a score is NaN, or there are fewer than held_out_needed() scores.
Threshold threshold_for(std::span<const double> held_out, double false_alarms,
                        double confidence = 0.95);

/// The least number of held-out scores for which there is such a threshold: (1 - a)^n <= 1 - c.
std::int64_t held_out_needed(double false_alarms, double confidence = 0.95);

/// The least share of false alarms that n > 0 held-out scores can promise: 1 - (1 - c)^(1/n).
double least_false_alarms(std::int64_t n, double confidence = 0.95);

/// How many of n held-out scores such a threshold rejects: the largest m with P(Bin(n, a) <= m) at
/// most 1 - confidence; -1 where there is none.
std::int64_t allowed_above(std::int64_t n, double false_alarms, double confidence = 0.95);

}  // namespace ood
