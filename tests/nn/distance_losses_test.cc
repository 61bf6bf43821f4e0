// The modules on centers: values through modules, state, legacy forms.
#include <gtest/gtest.h>

#include <sstream>

#include "ood/ood.h"
#include "ood/ops/distances.h"
#include "ood/torch.h"

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
  EXPECT_NEAR(cac->readout({z, {}}).score[0].item<double>(), 0.139523088, 1e-8);
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
  MCHADLoss old(MCHADLossOptions(3, 2).radius(0.5).margin(1.5).legacy(true));
  old->to(at::kDouble);
  {
    const torch::NoGradGuard no_grad;
    old->state("centers.centers").copy_(loss->state("centers.centers"));
  }
  const double legacy =
      ((own - 0.5).relu().slice(0, 0, 2).sum() / 6 + nll + (2.25 - d[2].square()).relu().sum())
          .item<double>();
  EXPECT_NEAR(old->forward(x, y).item<double>(), legacy, 1e-10);
  const auto moving = x.clone().requires_grad_();
  old->forward(moving, y).backward();
  const auto slow = torch::autograd::grad({old->forward(moving, y)}, {moving}, {}, true, true);
  EXPECT_TRUE(moving.grad().allclose(slow[0]));  // written out, and by the composite form
}

TEST(RunningMeans, AreTheExactMeansOfAllRowsSeen) {
  const auto centers = torch::zeros({2, 1}, at::kDouble), counts = torch::zeros({2}, at::kLong);
  running_means_update_(centers, counts, t({{0}, {0}, {0}}), torch::tensor({0, 0, 0}), 0);
  running_means_update_(centers, counts, t({{4}, {6}}), torch::tensor({0, 1}), 0);
  EXPECT_TRUE(centers.allclose(t({{1}, {6}})));
  EXPECT_TRUE(counts.equal(torch::tensor({4, 1})));
  running_means_update_(centers, counts, t({{100}}), torch::tensor({-1}), 0);
  EXPECT_TRUE(centers.allclose(t({{1}, {6}})));
  EXPECT_TRUE(std::isinf(IILoss(2, 1)->distance(t({{1}}).to(at::kFloat)).min().item<double>()));
}

TEST(RunningMeans, ExponentialAverage) {
  const auto centers = torch::zeros({1, 1}, at::kDouble), counts = torch::zeros({1}, at::kLong);
  running_means_update_(centers, counts, t({{8}}), torch::tensor({0}), 0.25);
  running_means_update_(centers, counts, t({{4}}), torch::tensor({0}), 0.25);
  EXPECT_NEAR(centers[0][0].item<double>(), 7, 1e-12);
}

TEST(DeepSvdd, CenterAndRadius) {
  DeepSVDDLoss loss(5, 0.1);
  loss->to(at::kDouble);
  const std::vector<at::Tensor> batches = {t({{.1, -.06, 0, 1, -.2}}), t({{0, 0, 0, 0, 0}})};
  loss->begin(batches);
  EXPECT_TRUE(loss->state("center").allclose(torch::tensor({.1, -.1, 0., .5, -.1}, at::kDouble)));
  Event after_warmup;
  after_warmup.epoch = 10;
  const auto at = [&](double distance) {
    return (loss->state("center") + torch::tensor({std::sqrt(distance), 0., 0., 0., 0.}))
        .to(at::kDouble);
  };
  const std::vector<at::Tensor> step{torch::stack({at(2.5), at(.5), at(8.5), at(99)}),
                                     torch::tensor({0, 1, 0, -1})};
  loss->update(after_warmup, step);
  EXPECT_NEAR(loss->state("radius").item<double>(), 2.6486085239549584, 1e-6);
}

TEST(DistanceLosses, StateSurvivesSavingLoadingAndTypes) {
  CenterLoss a(3, 4), b(3, 4);
  IILoss ii(3, 4);
  ii->forward(torch::randn({6, 4}), torch::tensor({0, 0, 1, 1, 2, 2}));
  std::stringstream file;
  torch::save(a, file);
  torch::load(b, file);
  EXPECT_TRUE(a->state("centers.centers").equal(b->state("centers.centers")));
  EXPECT_EQ(a->parameters().size(), 1u);
  EXPECT_EQ(ii->named_buffers().size(), 2u);
  a->to(at::kDouble);
  EXPECT_EQ(a->state("centers.centers").scalar_type(), at::kDouble);
  EXPECT_EQ(a->forward(torch::randn({2, 4}, at::kDouble), torch::tensor({0, -1})).scalar_type(),
            at::kDouble);
}

TEST(CenterLoss, GradientReachesTheCenters) {
  CenterLoss loss(3, 4);
  loss->forward(torch::randn({5, 4}), torch::tensor({0, 0, 1, -1, 1})).backward();
  const auto g = loss->state("centers.centers").grad();
  EXPECT_GT(g[0].abs().sum().item<double>(), 0);
  EXPECT_EQ(g[2].abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace ood::nn
