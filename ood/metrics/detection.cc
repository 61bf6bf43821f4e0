#include "ood/metrics/detection.h"

#include <ATen/core/PhiloxRNGEngine.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "ood/metrics/score_groups.h"

namespace ood {
namespace {

// Sum over OOD samples of the ID samples below, ties one half, as a share of all pairs.
template <class Groups>
double auroc_of(const Groups& all) {
  double below = 0, wins = 0, positives = 0;
  for (const auto& g : all) {
    wins += g.ood * (below + 0.5 * g.id);
    below += g.id;
    positives += g.ood;
  }
  return wins / (below * positives);
}

// Sum over thresholds of precision times the gain in recall; `first` to `last` from the most to the
// least positive.
template <class It, class Positive, class Negative>
double average_precision(It first, It last, Positive positive, Negative negative) {
  double tp = 0, fp = 0, sum = 0;
  for (auto it = first; it != last; ++it) {
    tp += positive(*it);
    fp += negative(*it);
    if (positive(*it) > 0) sum += positive(*it) * tp / (tp + fp);
  }
  return sum / tp;
}

}  // namespace

Detection detection(std::span<const double> id, std::span<const double> ood) {
  const auto all = score_groups(id, ood);
  const auto ids = [](const ScoreGroup& g) { return static_cast<double>(g.id); };
  const auto oods = [](const ScoreGroup& g) { return static_cast<double>(g.ood); };
  Detection d{};
  d.auroc = auroc_of(all);
  d.aupr_in = average_precision(all.begin(), all.end(), ids, oods);
  d.aupr_out = average_precision(all.rbegin(), all.rend(), oods, ids);
  std::int64_t accepted_id = 0, accepted_ood = 0;
  // 0.95 n is not representable; an integer comparison is exact.
  for (const ScoreGroup& g : all) {
    accepted_id += g.id;
    accepted_ood += g.ood;
    if (accepted_id * 100 >= static_cast<std::int64_t>(id.size()) * 95) break;
  }
  d.fpr95 = static_cast<double>(accepted_ood) / static_cast<double>(ood.size());
  const auto n_id = static_cast<double>(id.size()), n_ood = static_cast<double>(ood.size());
  std::int64_t rejected_id = 0, rejected_ood = 0;
  for (auto g = all.rbegin(); g != all.rend(); ++g) {
    rejected_id += g->id;
    rejected_ood += g->ood;
    if (rejected_ood * 100 >= static_cast<std::int64_t>(ood.size()) * 95) break;
  }
  d.fpr95_ood = static_cast<double>(rejected_id) / n_id;
  d.error = 0.5;  // all are accepted
  double below_id = 0, below_ood = 0;
  for (const ScoreGroup& g : all) {
    below_id += ids(g);
    below_ood += oods(g);
    d.error = std::min(d.error, (1 - below_id / n_id + below_ood / n_ood) / 2);
  }
  return d;
}

namespace {

// The samples of two populations with each score replaced by the index of its group, so that a
// bootstrap sample needs no sorting.
class Resampled {
 public:
  Resampled(std::span<const double> id, std::span<const double> ood)
      : groups_(score_groups(id, ood)) {
    for (const double s : id) id_.push_back(group_of(groups_, s));
    for (const double s : ood) ood_.push_back(group_of(groups_, s));
  }

  double auroc(std::uint64_t seed, int replicate) const {
    at::Philox4_32 random(seed, static_cast<std::uint64_t>(replicate));
    std::vector<Count> counts(groups_.size(), Count{0, 0});
    const auto draw = [&](std::size_t n) {
      return static_cast<std::size_t>((static_cast<std::uint64_t>(random()) * n) >> 32);
    };
    for (std::size_t i = 0; i < id_.size(); ++i) ++counts[id_[draw(id_.size())]].id;
    for (std::size_t i = 0; i < ood_.size(); ++i) ++counts[ood_[draw(ood_.size())]].ood;
    return auroc_of(counts);
  }

 private:
  struct Count {
    std::int32_t id, ood;
  };
  std::vector<ScoreGroup> groups_;
  std::vector<std::size_t> id_, ood_;
};

// How each ID sample stands among the OOD samples, the share above it, ties one half; and each OOD
// sample among the ID samples, the share below it. The mean of either is the AUROC.
struct Placements {
  std::vector<double> id, ood;
};

Placements placements(std::span<const double> id, std::span<const double> ood) {
  const auto all = score_groups(id, ood);
  std::vector<double> above(all.size()), below(all.size());
  double ids = 0, oods = 0;
  for (std::size_t g = 0; g < all.size(); ++g) {
    below[g] = (ids + 0.5 * static_cast<double>(all[g].id)) / static_cast<double>(id.size());
    above[g] = 1 - (oods + 0.5 * static_cast<double>(all[g].ood)) / static_cast<double>(ood.size());
    ids += static_cast<double>(all[g].id);
    oods += static_cast<double>(all[g].ood);
  }
  const auto at = [&](const std::vector<double>& of_group, std::span<const double> scores) {
    std::vector<double> out;
    out.reserve(scores.size());
    for (const double s : scores) out.push_back(of_group[group_of(all, s)]);
    return out;
  };
  return {at(above, id), at(below, ood)};
}

double mean_of(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

// Of the mean: the variance of the values divided by their number.
double variance_of_mean(const std::vector<double>& v) {
  const double mean = mean_of(v);
  double sum = 0;
  for (const double x : v) sum += (x - mean) * (x - mean);
  const auto n = static_cast<double>(v.size());
  return v.size() < 2 ? 0 : sum / (n - 1) / n;
}

constexpr double kNormal95 = 1.959963984540054;  // 97.5 % of a normal distribution lie below

Interval normal_interval(const Placements& p) {
  const double middle = mean_of(p.id);
  const double half = kNormal95 * std::sqrt(variance_of_mean(p.id) + variance_of_mean(p.ood));
  return {middle - half, middle + half};
}

// The lowest AUROC from which that of 1 over m and n samples is no further than chance brings it, in
// 95 % of cases: 1 - a = z sqrt(V(a)), with the variance of Hanley and McNeil (1982) as Newcombe (2006)
// takes it, N = (m + n) / 2 - 1:
//
//   V(a) = a (1 - a) (1 + N (1 - a) / (2 - a) + N a / (1 + a)) / (m n)
double low_of_perfect(double m, double n) {
  const double others = (m + n) / 2 - 1;
  double low = 0, high = 1;
  for (int i = 0; i < 60; ++i) {
    const double a = (low + high) / 2;
    const double v = a * (1 + others * ((1 - a) / (2 - a) + a / (1 + a))) / (m * n);
    (1 - a > kNormal95 * kNormal95 * v ? low : high) = a;
  }
  return low;
}

template <class Value>
Interval percentiles(int replicates, const Value& value) {
  if (replicates < 1)
    throw std::invalid_argument("expected at least 1 bootstrap sample, got " +
                                std::to_string(replicates));
  std::vector<double> values;
  for (int r = 0; r < replicates; ++r) values.push_back(value(r));
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double q) {
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {quantile(0.025), quantile(0.975)};
}

}  // namespace

Interval auroc_interval(std::span<const double> id, std::span<const double> ood, std::uint64_t seed,
                        int replicates) {
  // Where no pair is out of order, none is in any bootstrap sample.
  const double found = auroc_of(score_groups(id, ood));
  const double furthest =
      1 - low_of_perfect(static_cast<double>(id.size()), static_cast<double>(ood.size()));
  if (found == 1) return {1 - furthest, 1};
  if (found == 0) return {0, furthest};
  if (id.size() + ood.size() >= kManySamples) {
    const auto i = normal_interval(placements(id, ood));
    return {std::max(i.low, 0.0), std::min(i.high, 1.0)};
  }
  const Resampled samples(id, ood);
  return percentiles(replicates, [&](int r) { return samples.auroc(seed, r); });
}

Interval auroc_difference(std::span<const double> id_a, std::span<const double> ood_a,
                          std::span<const double> id_b, std::span<const double> ood_b,
                          std::uint64_t seed, int replicates) {
  if (id_a.size() != id_b.size() || ood_a.size() != ood_b.size())
    throw std::invalid_argument("auroc_difference: expected two scores of the same samples");
  if (id_a.size() + ood_a.size() >= kManySamples) {
    auto p = placements(id_a, ood_a);
    const auto q = placements(id_b, ood_b);
    std::transform(p.id.begin(), p.id.end(), q.id.begin(), p.id.begin(), std::minus<>());
    std::transform(p.ood.begin(), p.ood.end(), q.ood.begin(), p.ood.begin(), std::minus<>());
    return normal_interval(p);
  }
  const Resampled a(id_a, ood_a), b(id_b, ood_b);
  return percentiles(replicates, [&](int r) { return a.auroc(seed, r) - b.auroc(seed, r); });
}

std::vector<CurvePoint> roc_curve(std::span<const double> id, std::span<const double> ood,
                                  int max_points) {
  if (max_points < 2)
    throw std::invalid_argument("roc_curve: expected at least 2 points, got " +
                                std::to_string(max_points));
  const auto all = score_groups(id, ood);
  std::vector<CurvePoint> points{{0, 0}};
  const auto n_id = static_cast<double>(id.size()), n_ood = static_cast<double>(ood.size());
  std::int64_t rejected_id = 0, rejected_ood = 0;
  for (auto g = all.rbegin(); g != all.rend(); ++g) {
    rejected_id += g->id;
    rejected_ood += g->ood;
    points.push_back(
        {static_cast<double>(rejected_id) / n_id, static_cast<double>(rejected_ood) / n_ood});
  }
  if (static_cast<int>(points.size()) <= max_points) return points;
  // Keep a point whenever the curve has moved far enough in either direction.
  std::vector<CurvePoint> kept{points.front()};
  const double step = 2.0 / (max_points - 2);
  for (const CurvePoint& p : points)
    if (p.x - kept.back().x + p.y - kept.back().y >= step) kept.push_back(p);
  if (kept.back().x < 1 || kept.back().y < 1) kept.push_back(points.back());
  return kept;
}

double threshold_at(std::span<const double> scores, double share) {
  if (scores.empty()) throw std::invalid_argument("threshold_at: expected scores, got none");
  if (!(share >= 0 && share <= 1))
    throw std::invalid_argument("threshold_at: expected a share from 0 to 1, got " +
                                std::to_string(share));
  if (std::any_of(scores.begin(), scores.end(), [](double s) { return std::isnan(s); }))
    throw std::invalid_argument("threshold_at: expected numbers as scores, got NaN");
  std::vector<double> all(scores.begin(), scores.end());
  std::sort(all.begin(), all.end());
  const auto n = static_cast<double>(all.size());
  const auto needed = static_cast<std::size_t>(std::ceil(share * n - 1e-9));
  return all[std::clamp<std::size_t>(needed, 1, all.size()) - 1];
}

}  // namespace ood
