// Mixing against numbers worked out by hand, and the distribution of its draws.
#include "ood/augment/mixing.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ood/ood.h"
#include "ood/torch.h"

namespace ood {
namespace {

TEST(Mixup, OneAndTwoDimensions) {
  const auto order = torch::tensor({2, 0, 3, 1});
  const auto y = torch::tensor({0, 1, 2, 0});
  const auto a = mixup_with(torch::tensor({1., 2., 3., 4.}, at::kDouble), y, 0.3, order);
  EXPECT_TRUE(a.inputs.allclose(torch::tensor({2.4, 1.3, 3.7, 2.6}, at::kDouble)));
  EXPECT_TRUE(a.target_b.equal(torch::tensor({2, 0, 0, 1})));
  const auto b = mixup_with(torch::arange(1, 9).to(at::kDouble).view({4, 2}), y, 0.3, order);
  EXPECT_TRUE(b.inputs.allclose(
      torch::tensor({{3.8, 4.8}, {1.6, 2.6}, {6.4, 7.4}, {4.2, 5.2}}, at::kDouble)));
}

TEST(Mixup, CriterionGolden) {
  const auto logits =
      torch::tensor({{2., 0., -1.}, {.5, 1.5, 0.}, {1., -1., 0.}, {3., 0., 0.}}, at::kDouble);
  Mixed m{logits, torch::tensor({0, 1, 2, 0}), torch::tensor({2, 0, 0, 1}), 0.3};
  const auto mean = mixup_criterion(nn::CrossEntropyLoss(), logits, m);
  EXPECT_NEAR(mean.item<double>(), 1.5841859311323927, 1e-9);
  const auto rows = mixup_criterion(
      nn::CrossEntropyLoss(nn::CrossEntropyLossOptions().reduction(nn::Reduction::kNone)), logits,
      m);
  EXPECT_NEAR(rows[3].item<double>(), 2.194922956, 1e-8);
}

TEST(CutMix, BoxIsExactAfterClipping) {
  const auto b = cut_box(8, 8, 0.36, 1, 6);
  EXPECT_EQ(b.x1, 0);
  EXPECT_EQ(b.y1, 3);
  EXPECT_EQ(b.x2, 4);
  EXPECT_EQ(b.y2, 8);
  EXPECT_EQ(b.lambda, 0.6875);
}

TEST(CutMix, LambdaIsTheShareOfPixelsThatStayed) {
  const auto x =
      torch::arange(6).to(at::kFloat).view({6, 1, 1, 1}).expand({6, 2, 9, 7}).contiguous();
  const auto before = x.clone();
  for (int seed = 0; seed < 50; ++seed) {
    RandomStream random(static_cast<std::uint64_t>(seed));
    const auto m = cutmix(x, torch::arange(6), 1, 1, random);
    EXPECT_TRUE(x.equal(before));
    for (int i = 0; i < 6; ++i) {
      const auto own = m.inputs[i].eq(i);
      const auto other = m.inputs[i].eq(m.target_b[i].item<float>());
      EXPECT_TRUE(own.logical_or(other).all().item<bool>());
      if (m.target_b[i].item<int>() != i) {
        EXPECT_NEAR(own.to(at::kDouble).mean().item<double>(), m.lambda, 1e-12);
      }
    }
  }
  RandomStream random(1);
  EXPECT_EQ(cutmix(x, torch::arange(6), 1, 0, random).lambda, 1);
}

// Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)); at tiny a it is 0 or 1, half each.
TEST(RandomStream, BetaAtAllScales) {
  constexpr int kDraws = 20000;
  for (const double a : {0.2, 1.0, 20.0}) {
    RandomStream random(7);
    double sum = 0, squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double v = random.beta(a);
      ASSERT_TRUE(v >= 0 && v <= 1);
      sum += v;
      squares += (v - 0.5) * (v - 0.5);
    }
    const double variance = 1 / (4 * (2 * a + 1));
    EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(variance / kDraws)) << a;
    EXPECT_NEAR(squares / kDraws, variance, 0.05 * variance) << a;
  }
  RandomStream random(7);
  int ones = 0;
  for (int i = 0; i < 2000; ++i) {
    const double v = random.beta(1e-6);
    ASSERT_FALSE(std::isnan(v));
    ones += v > 0.5;
  }
  EXPECT_NEAR(ones, 1000, 150);
}

TEST(RandomStream, TheSameSeedGivesTheSameBatch) {
  const auto x = torch::randn({5, 3}), y = torch::arange(5);
  RandomStream a(3, 1), b(3, 1), c(3, 2);
  EXPECT_TRUE(mixup_data(x, y, 1, a).inputs.equal(mixup_data(x, y, 1, b).inputs));
  EXPECT_FALSE(mixup_data(x, y, 1, c).inputs.equal(mixup_data(x, y, 1, b).inputs));
  EXPECT_EQ(mixup_data(x, y, 0, a).lambda, 1);
}

}  // namespace
}  // namespace ood
