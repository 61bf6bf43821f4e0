// Against definitions written out as double loops, with many ties.
#include "ood/metrics/detection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>

#include "ood/metrics/open_set.h"

namespace ood {
namespace {

using Scores = std::vector<double>;

double brute_auroc(const Scores& id, const Scores& ood) {
  double wins = 0;
  for (const double o : ood)
    for (const double i : id) wins += o > i ? 1 : o == i ? 0.5 : 0;
  return wins / static_cast<double>(id.size() * ood.size());
}

// Average precision: at each distinct threshold, precision times the gain in recall.
double brute_average_precision(const Scores& positive, const Scores& negative) {
  std::set<double, std::greater<>> thresholds(positive.begin(), positive.end());
  double sum = 0, before = 0;
  for (const double t : thresholds) {
    double tp = 0, fp = 0;
    for (const double p : positive) tp += p >= t;
    for (const double n : negative) fp += n >= t;
    const double recall = tp / static_cast<double>(positive.size());
    sum += (recall - before) * tp / (tp + fp);
    before = recall;
  }
  return sum;
}

double brute_fpr95(const Scores& id, const Scores& ood) {
  std::set<double> thresholds(id.begin(), id.end());
  for (const double t : thresholds) {
    std::size_t in = 0, out = 0;
    for (const double i : id) in += i <= t;
    for (const double o : ood) out += o <= t;
    if (in * 100 >= id.size() * 95)
      return static_cast<double>(out) / static_cast<double>(ood.size());
  }
  return 1;
}

Scores negated(Scores v) {
  for (double& x : v) x = -x;
  return v;
}

TEST(Detection, MatchesDefinitionsWithTies) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    Scores id(1 + random() % 60), ood(1 + random() % 60);
    const int values = 1 + static_cast<int>(random() % 25);
    for (auto& s : id) s = static_cast<double>(random() % values);
    for (auto& s : ood) s = static_cast<double>(random() % values) + (trial % 3);
    const Detection d = detection(id, ood);
    EXPECT_NEAR(d.auroc, brute_auroc(id, ood), 1e-12);
    EXPECT_NEAR(d.aupr_out, brute_average_precision(ood, id), 1e-12);
    EXPECT_NEAR(d.aupr_in, brute_average_precision(negated(id), negated(ood)), 1e-12);
    EXPECT_NEAR(d.fpr95, brute_fpr95(id, ood), 1e-12);
  }
}

TEST(Detection, KnownCases) {
  const Scores low{0, 1, 2}, high{3, 4}, same{1, 1, 1};
  EXPECT_EQ(detection(low, high).auroc, 1);
  EXPECT_EQ(detection(low, high).aupr_in, 1);
  EXPECT_EQ(detection(low, high).aupr_out, 1);
  EXPECT_EQ(detection(low, high).fpr95, 0);
  EXPECT_EQ(detection(high, low).auroc, 0);
  EXPECT_EQ(detection(same, same).auroc, 0.5);
  EXPECT_EQ(detection(same, same).fpr95, 1);
}

TEST(Detection, NeedsBothPopulationsAndNumbers) {
  const Scores some{1, 2}, none, nan{std::numeric_limits<double>::quiet_NaN()};
  EXPECT_THROW(detection(some, none), std::invalid_argument);
  EXPECT_THROW(detection(none, some), std::invalid_argument);
  EXPECT_THROW(detection(some, nan), std::invalid_argument);
}

TEST(Detection, InfiniteScoresAreOrdered) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(detection(Scores{-inf, 0}, Scores{1, inf}).auroc, 1);
}

TEST(AurocInterval, CoversTheTruthAboutAsOftenAsItSays) {
  // Two unit normals one apart: the true AUROC is Phi(1 / sqrt 2) = 0.7602.
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  int covered = 0;
  constexpr int kTrials = 200;
  for (int t = 0; t < kTrials; ++t) {
    Scores id(80), ood(80);
    for (auto& s : id) s = normal(random);
    for (auto& s : ood) s = normal(random) + 1;
    const auto i = auroc_interval(id, ood, static_cast<std::uint64_t>(t), 300);
    EXPECT_LT(i.low, i.high);
    covered += i.low <= 0.7602 && 0.7602 <= i.high;
  }
  // Binomial(200, 0.95) is within 178 .. 199 with probability above 0.999.
  EXPECT_GE(covered, 176);
  EXPECT_LE(covered, 199);
}

TEST(AurocInterval, OfAPerfectSeparationIsNoPoint) {
  // Two unit normals 2.9 apart, whose AUROC is 0.98: of 12 and 12 samples most are separated. A
  // bootstrap alone would say [1, 1] of these.
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal;
  int covered = 0, perfect = 0;
  for (int t = 0; t < 300; ++t) {
    Scores id(12), ood(12);
    for (auto& s : id) s = normal(random);
    for (auto& s : ood) s = normal(random) + 2.9;
    perfect += detection(id, ood).auroc == 1;
    const auto i = auroc_interval(id, ood, static_cast<std::uint64_t>(t), 300);
    covered += i.low <= 0.98 && 0.98 <= i.high;
  }
  EXPECT_GT(perfect, 60);
  EXPECT_GE(covered, 264);
  const Scores below{1, 2}, above{3, 4, 5};
  const auto best = auroc_interval(below, above, 0), worst = auroc_interval(above, below, 0);
  EXPECT_EQ(best.high, 1);
  EXPECT_EQ(worst.low, 0);
  EXPECT_NEAR(best.low, 1 - worst.high, 1e-12);
}

TEST(AurocInterval, DependsOnNothingButItsArguments) {
  const Scores id{1, 2, 3, 4, 5}, ood{3, 4, 5, 6};
  const auto a = auroc_interval(id, ood, 7), b = auroc_interval(id, ood, 7);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
}

TEST(RocCurve, RunsFromCornerToCornerAndRises) {
  std::mt19937_64 random(3);
  Scores id(5000), ood(3000);
  for (auto& s : id) s = static_cast<double>(random() % 100000);
  for (auto& s : ood) s = static_cast<double>(random() % 100000) + 20000;
  const auto curve = roc_curve(id, ood, 100);
  EXPECT_LE(curve.size(), 100u);
  EXPECT_EQ(curve.front().x, 0);
  EXPECT_EQ(curve.back().x, 1);
  EXPECT_EQ(curve.back().y, 1);
  const auto all = roc_curve(id, ood, 10000);
  EXPECT_EQ(all.back().x, 1);
  EXPECT_EQ(all.back().y, 1);
  double area = 0;
  for (std::size_t i = 1; i < curve.size(); ++i) {
    EXPECT_GE(curve[i].x, curve[i - 1].x);
    EXPECT_GE(curve[i].y, curve[i - 1].y);
    area += (curve[i].x - curve[i - 1].x) * (curve[i].y + curve[i - 1].y) / 2;
  }
  EXPECT_NEAR(area, detection(id, ood).auroc, 1e-3);
}

TEST(Metrics, RefuseWhatHasNoMeaning) {
  const Scores id{1, 2, 3}, ood{2, 4};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(auroc_interval(id, ood, 0, 0), std::invalid_argument);
  EXPECT_THROW(auroc_difference(id, ood, id, ood, 0, -3), std::invalid_argument);
  EXPECT_THROW(roc_curve(id, ood, 1), std::invalid_argument);
  EXPECT_LE(roc_curve(id, ood, 2).size(), 2u);
  EXPECT_THROW(threshold_at(Scores{1, nan}, 0.5), std::invalid_argument);
  for (const double share : {-0.1, 2.0, nan})
    EXPECT_THROW(threshold_at(id, share), std::invalid_argument);
  const Scores log_p{std::log(0.5), std::log(0.5)};
  for (const int bins : {0, -1})
    EXPECT_THROW(calibration(log_p, std::vector<std::int64_t>{0}, bins), std::invalid_argument);
  EXPECT_THROW(calibration(log_p, std::vector<std::int64_t>{-1}), std::invalid_argument);
}

TEST(Threshold, SmallestThatAcceptsTheShare) {
  Scores scores;
  for (int i = 1; i <= 100; ++i) scores.push_back(i);
  EXPECT_EQ(threshold_at(scores, 0.95), 95);
  EXPECT_EQ(threshold_at(scores, 1), 100);
  EXPECT_EQ(threshold_at(Scores{5}, 0.95), 5);
}

}  // namespace
}  // namespace ood
