// The modules on centers: values through modules, state, legacy forms.
#include "ood/nn/distance_losses.h"

#include <gtest/gtest.h>

#include <sstream>

namespace ood::nn {
namespace {

at::Tensor t(std::initializer_list<std::initializer_list<double>> rows) {
  std::vector<at::Tensor> all;
  for (const auto& r : rows) all.push_back(torch::tensor(std::vector<double>(r), at::kDouble));
  return torch::stack(all);
}

TEST(DistanceLosses, CacThroughItsModule) {
  CACLoss cac(CACLossOptions(3).magnitude(2).anchor_weight(0.1));
  cac->to(at::kDouble);
  const auto z = t({{1.5, .2, -.3}, {.1, .4, .2}, {-.2, 1, 1.2}});
  EXPECT_NEAR(cac->forward(z, torch::tensor({0, 1, 2})).item<double>(), 0.7411778317990183, 1e-9);
  EXPECT_NEAR(CACLossImpl::score(cac->distance(z))[0].item<double>(), 0.139523088, 1e-8);
  CACLoss squared(CACLossOptions(3).magnitude(2).squared(true));
  squared->to(at::kDouble);
  EXPECT_NEAR(squared->forward(z, torch::tensor({0, 1, 2})).item<double>(), 0.4689357224582019,
              1e-9);
}

TEST(DistanceLosses, MchadFormulaAndLegacy) {
  MCHADLoss loss(MCHADLossOptions(3, 2).radius(0.5).margin(1.5));
  loss->to(at::kDouble);
  const auto x = t({{1, 0}, {0, 2}, {.3, .1}});
  const auto y = torch::tensor({0, 1, -1});
  const auto d = loss->distance(x);
  const auto id = y.ge(0);
  const auto own = d.gather(1, y.clamp_min(0).unsqueeze(1)).squeeze(1);
  const auto nll = (own + d.neg().logsumexp(1)).slice(0, 0, 2).mean();
  const double formula =
      ((own - 0.25).relu().slice(0, 0, 2).mean() + nll + (4 - d[2]).relu().sum()).item<double>();
  EXPECT_NEAR(loss->forward(x, y).item<double>(), formula, 1e-10);
  loss->options.legacy(true);
  const double legacy =
      ((own - 0.5).relu().slice(0, 0, 2).sum() / 6 + nll + (2.25 - d[2].square()).relu().sum())
          .item<double>();
  EXPECT_NEAR(loss->forward(x, y).item<double>(), legacy, 1e-10);
}

TEST(RunningCenters, AreTheExactMeansOfAllRowsSeen) {
  RunningCenters centers(2, 1);
  centers->to(at::kDouble);
  centers->update(t({{0}, {0}, {0}}), torch::tensor({0, 0, 0}));
  centers->update(t({{4}, {6}}), torch::tensor({0, 1}));
  EXPECT_TRUE(centers->centers.allclose(t({{1}, {6}})));
  EXPECT_TRUE(centers->counts.equal(torch::tensor({4, 1})));
  EXPECT_FALSE(centers->centers.requires_grad());
  centers->update(t({{100}}), torch::tensor({-1}));
  EXPECT_TRUE(centers->centers.allclose(t({{1}, {6}})));
  centers->reset();
  EXPECT_EQ(centers->present().sum().item<int>(), 0);
  EXPECT_TRUE(std::isinf(centers->forward(t({{1}})).min().item<double>()));
}

TEST(RunningCenters, ExponentialAverage) {
  RunningCenters centers(1, 1, 0.25);
  centers->to(at::kDouble);
  centers->update(t({{8}}), torch::tensor({0}));
  centers->update(t({{4}}), torch::tensor({0}));
  EXPECT_NEAR(centers->centers[0][0].item<double>(), 7, 1e-12);
}

TEST(DeepSvdd, CenterAndRadius) {
  DeepSVDDLoss loss(5, 0.1);
  loss->to(at::kDouble);
  const std::vector<at::Tensor> batches = {t({{.1, -.06, 0, 1, -.2}}), t({{0, 0, 0, 0, 0}})};
  loss->init_center(batches);
  EXPECT_TRUE(loss->center.allclose(torch::tensor({.1, -.1, 0., .5, -.1}, at::kDouble)));
  loss->update_radius(torch::tensor({2.5, .5, 8.5}, at::kDouble));
  EXPECT_NEAR(loss->radius.item<double>(), 2.6486085239549584, 1e-9);
}

TEST(DistanceLosses, StateSurvivesSavingLoadingAndTypes) {
  CenterLoss a(3, 4), b(3, 4);
  IILoss ii(3, 4);
  ii->forward(torch::randn({6, 4}), torch::tensor({0, 0, 1, 1, 2, 2}));
  std::stringstream file;
  torch::save(a, file);
  torch::load(b, file);
  EXPECT_TRUE(a->centers->centers.equal(b->centers->centers));
  EXPECT_EQ(a->parameters().size(), 1u);
  EXPECT_EQ(ii->named_buffers().size(), 2u);
  a->to(at::kDouble);
  EXPECT_EQ(a->centers->centers.scalar_type(), at::kDouble);
  EXPECT_EQ(a->forward(torch::randn({2, 4}, at::kDouble), torch::tensor({0, -1})).scalar_type(),
            at::kDouble);
}

TEST(CenterLoss, GradientReachesTheCenters) {
  CenterLoss loss(3, 4);
  loss->forward(torch::randn({5, 4}), torch::tensor({0, 0, 1, -1, 1})).backward();
  const auto g = loss->centers->centers.grad();
  EXPECT_GT(g[0].abs().sum().item<double>(), 0);
  EXPECT_EQ(g[2].abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace ood::nn
