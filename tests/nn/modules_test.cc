// The torch::nn face: options, functions, printing, cloning.
#include <gtest/gtest.h>

#include <sstream>

#include "ood/ood.h"
#include "ood/torch.h"

namespace ood {
namespace {

const auto kLogits = torch::tensor(
    {{2., 0., -1.}, {.5, 1.5, 0.}, {1., -1., 0.}, {3., 0., 0.}, {0., 0., 1.}}, at::kDouble);
const auto kTarget = torch::tensor({0, 1, -1, -1, -1});

TEST(Modules, OptionsReachTheLoss) {
  nn::OutlierExposureLoss criterion(nn::OutlierExposureLossOptions().alpha(0.5));
  EXPECT_NEAR(criterion(kLogits, kTarget).item<double>(), 1.1038807854094583, 1e-12);
  nn::OutlierExposureLoss whole(
      nn::OutlierExposureLossOptions().alpha(0.5).balance(Balance::kWholeBatch));
  EXPECT_NEAR(whole(kLogits, kTarget).item<double>(), 0.5989069908792519, 1e-12);
  nn::OutlierExposureLoss rows(nn::OutlierExposureLossOptions().reduction(nn::Reduction::kNone));
  EXPECT_EQ(rows(kLogits, kTarget).sizes(), kTarget.sizes());
  nn::EnergyRegularizedLoss energy(
      nn::EnergyRegularizedLossOptions().margin_in(-2).margin_out(-1.2));
  EXPECT_NEAR(energy(kLogits, kTarget).item<double>(), 0.4424157688159065, 1e-12);
  nn::CrossEntropyLoss ignoring(
      nn::CrossEntropyLossOptions().ignore_index(1).reduction(nn::Reduction::kSum));
  EXPECT_NEAR(ignoring(kLogits, kTarget).item<double>(), 0.16984602, 1e-7);
}

TEST(Modules, FunctionsAreTheSame) {
  namespace F = nn::functional;
  EXPECT_EQ(F::entropic_open_set(kLogits, kTarget).item<double>(),
            nn::EntropicOpenSetLoss()(kLogits, kTarget).item<double>());
  EXPECT_EQ(F::logit_norm(kLogits, kTarget, nn::LogitNormOptions().tau(0.5)).item<double>(),
            nn::LogitNormLoss(nn::LogitNormOptions().tau(0.5))(kLogits, kTarget).item<double>());
}

TEST(Modules, WeightsMultiplyRows) {
  const auto weight = torch::tensor({1., 2., 0., 1., 3.}, at::kDouble);
  nn::EntropicOpenSetLoss criterion(
      nn::EntropicOpenSetLossOptions().reduction(nn::Reduction::kNone));
  const auto rows = criterion(kLogits, kTarget);
  EXPECT_TRUE(criterion(kLogits, kTarget, weight).allclose(rows * weight));
}

TEST(Modules, BackgroundClassWeightedByClass) {
  const auto weight = torch::tensor({1., 2., .5}, at::kDouble);
  EXPECT_NEAR(nn::functional::background_class_weighted(kLogits, kTarget, weight).item<double>(),
              0.8056823122601937, 1e-9);
}

TEST(Modules, EnergyGapInPairs) {
  const auto in = kLogits.slice(0, 0, 2), out = kLogits.slice(0, 2, 4);
  EXPECT_NEAR(nn::functional::energy_gap_pairwise(in, kTarget.slice(0, 0, 2), out).item<double>(),
              1.335523107692171, 1e-9);
  EXPECT_THROW(nn::functional::energy_gap_pairwise(in, kTarget.slice(0, 0, 2), kLogits),
               c10::Error);
}

TEST(Modules, DefaultsAreTheRegistrys) {
  EXPECT_EQ(nn::EnergyRegularizedLossOptions().parameters(),
            get_objective("energy_regularized").defaults());
  EXPECT_EQ(nn::LogitNormOptions().parameters(), get_objective("logit_norm").defaults());
}

TEST(Modules, PrintAndClone) {
  nn::LogitNormLoss criterion(nn::LogitNormOptions().tau(0.25));
  std::ostringstream text;
  text << *criterion;
  EXPECT_EQ(text.str(), "ood::nn::LogitNormLoss(tau=0.25, reduction=mean)");
  const auto copy = std::dynamic_pointer_cast<nn::LogitNormLoss::Impl>(criterion->clone());
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->options.tau(), 0.25);
}

TEST(Modules, TrainInsideASequential) {
  torch::manual_seed(0);
  torch::nn::Linear layer(4, 3);
  torch::optim::SGD optimizer(layer->parameters(), 0.5);
  nn::OutlierExposureLoss criterion;
  const auto x = torch::randn({32, 4});
  const auto y =
      torch::where(x.select(1, 3).gt(0.8), torch::full({32}, -1), x.slice(1, 0, 3).argmax(1));
  const double before = criterion(layer(x), y).item<double>();
  for (int i = 0; i < 50; ++i) {
    optimizer.zero_grad();
    criterion(layer(x), y).backward();
    optimizer.step();
  }
  EXPECT_LT(criterion(layer(x), y).item<double>(), before - 0.1);
}

TEST(Modules, TwoBatchesAreOneWithOutliersMarked) {
  const auto in = torch::randn({5, 4}), out = torch::randn({3, 4});
  const auto target = torch::tensor({0, 1, 2, 3, 0});
  nn::OutlierExposureLoss criterion;
  const auto one = criterion(torch::cat({in, out}), torch::cat({target, torch::full({3}, -1)}));
  EXPECT_TRUE(torch::allclose(criterion->forward_two(in, target, out), one));
  const auto alone = torch::nn::functional::cross_entropy(in, target);
  EXPECT_TRUE(torch::allclose(criterion->forward_two(in, target), alone));
  EXPECT_TRUE(torch::allclose(criterion->forward_two(in, target, out.slice(0, 0, 0)), alone));
}

}  // namespace
}  // namespace ood
