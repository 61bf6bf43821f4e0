// Warnings of a set-up that will not work as meant: each says what, why and what instead.
#include "ood/train/setup_warnings.h"

#include <gtest/gtest.h>

#include "ood/models/networks.h"
#include "ood/train/objective.h"

namespace ood {
namespace {

std::vector<std::string> on_batch(const char* name, const std::vector<double>& parameters,
                                  const at::Tensor& logits, const at::Tensor& target) {
  const ObjectiveContext context{logits.size(1), 1};
  return Objective(get_objective(name), parameters, context).check({logits, {}}, target);
}

TEST(SetupWarnings, HingesThatNobodyOrEverybodyViolates) {
  const auto logits = torch::randn({8, 4});
  const auto target = torch::tensor({0, 1, 2, 3, -1, -1, -1, -1});
  const auto lines = on_batch("energy_regularized", {0.1, -25, -7}, logits, target);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find("margin_in -25 is violated by every ID row"), std::string::npos);
  EXPECT_NE(lines[1].find("margin_out -7 is violated by no OOD row"), std::string::npos);
  EXPECT_NE(lines[1].find("ood margins"), std::string::npos);
  const auto spread = torch::tensor({1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0}).unsqueeze(1) * 5;
  EXPECT_TRUE(on_batch("energy_regularized", {0.1, -2, -2}, spread.expand({8, 4}), target).empty());
  EXPECT_TRUE(on_batch("cross_entropy", {0}, logits, target).empty());
}

TEST(SetupWarnings, ATemperatureThatLeavesNothingToLearn) {
  const auto logits = torch::randn({4, 10});
  const auto target = torch::tensor({0, 1, 2, 3});
  const auto lines = on_batch("logit_norm", {1}, logits, target);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("cannot fall below 1.4"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("0.04"), std::string::npos);
  EXPECT_TRUE(on_batch("logit_norm", {0.04}, logits, target).empty());
}

TEST(SetupWarnings, FeaturesThatAreTheInputs) {
  const auto& entry = get_objective("ii");
  const auto linear = make_linear({1, 4, 4, 3, true}), mlp = make_mlp({1, 4, 4, 3, true});
  const auto lines = setup_warnings(entry, *linear);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("`model` mlp"), std::string::npos);
  EXPECT_TRUE(setup_warnings(entry, *mlp).empty());
  const auto& plain = get_objective("cross_entropy");
  EXPECT_TRUE(setup_warnings(plain, *linear).empty());
}

TEST(SetupWarnings, ABiasForAOneClassObjective) {
  const auto& entry = get_objective("deep_svdd");
  const auto with = make_mlp({1, 4, 4, 32, true}), without = make_mlp({1, 4, 4, 32, false});
  const auto lines = setup_warnings(entry, *with);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("without biases"), std::string::npos);
  EXPECT_TRUE(setup_warnings(entry, *without).empty());
}

}  // namespace
}  // namespace ood
