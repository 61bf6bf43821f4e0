#include "ood/metrics/open_set.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ood/metrics/score_groups.h"

namespace ood {
// Samples are accepted from the lowest score on. Within a group of equal scores the order is
// random: its failures come evenly.
OpenSet open_set(std::span<const double> id, std::span<const std::uint8_t> correct,
                 std::span<const double> ood) {
  if (id.size() != correct.size())
    throw std::invalid_argument("open_set: expected an answer for each ID sample");
  const auto n_id = static_cast<double>(id.size()), n_ood = static_cast<double>(ood.size());
  const double n = n_id + n_ood;
  OpenSet out{};
  double right = 0, accepted = 0, failed = 0, accepted_ood = 0;
  for (const ScoreGroup& g : score_groups(id, ood, correct)) {
    const auto of_ood = static_cast<double>(g.ood), of_right = static_cast<double>(g.right);
    out.oscr += of_ood / n_ood * (right + of_right / 2) / n_id;
    const double size = static_cast<double>(g.id) + of_ood, failures = size - of_right;
    for (double i = 1; i <= size; ++i)
      out.aurc += (failed + failures * i / size) / (accepted + i) / n;
    out.augrc += size / n * (failed + failures / 2) / n;
    right += of_right;
    accepted += size;
    failed += failures;
    accepted_ood += of_ood;
    for (std::size_t i = 0; i < std::size(kCcrRates); ++i)
      if (accepted_ood <= kCcrRates[i] * n_ood * (1 + 1e-12)) out.ccr_at_fpr[i] = right / n_id;
  }
  return out;
}

Calibration calibration(std::span<const double> log_p, std::span<const std::int64_t> labels,
                        int bins) {
  if (bins < 1)
    throw std::invalid_argument("calibration: expected at least 1 bin, got " +
                                std::to_string(bins));
  const auto n = labels.size();
  if (n == 0 || log_p.size() % n != 0)
    throw std::invalid_argument("calibration: expected log-probabilities [N, K] and labels [N]");
  const auto k = log_p.size() / n;
  struct Sample {
    double certainty, right;
  };
  std::vector<Sample> samples;
  Calibration c{};
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = log_p.subspan(i * k, k);
    const auto label = static_cast<std::size_t>(labels[i]);
    if (label >= k)
      throw std::invalid_argument("calibration: expected labels from 0 to " +
                                  std::to_string(k - 1) + ", got " + std::to_string(labels[i]));
    c.nll -= row[label];
    for (std::size_t j = 0; j < k; ++j) {
      const double off = std::exp(row[j]) - (j == label ? 1 : 0);
      c.brier += off * off;
    }
    const auto best = std::max_element(row.begin(), row.end());
    samples.push_back(
        {std::exp(*best), static_cast<std::size_t>(best - row.begin()) == label ? 1.0 : 0.0});
  }
  std::stable_sort(samples.begin(), samples.end(),
                   [](auto& a, auto& b) { return a.certainty < b.certainty; });
  // Of ties, each has their mean: which of them a bin takes is the order that they came in.
  for (auto first = samples.begin(); first != samples.end();) {
    const auto last = std::find_if(
        first + 1, samples.end(), [&](const Sample& s) { return s.certainty != first->certainty; });
    double right = 0;
    for (auto s = first; s != last; ++s) right += s->right;
    right /= static_cast<double>(last - first);
    for (; first != last; ++first) first->right = right;
  }
  const auto count = static_cast<std::size_t>(bins);
  for (std::size_t b = 0; b < count; ++b) {
    double gap = 0;
    for (std::size_t i = b * n / count; i < (b + 1) * n / count; ++i)
      gap += samples[i].certainty - samples[i].right;
    c.ece += std::abs(gap);
  }
  const auto rows = static_cast<double>(n);
  return {c.nll / rows, c.brier / rows, c.ece / rows};
}

}  // namespace ood
