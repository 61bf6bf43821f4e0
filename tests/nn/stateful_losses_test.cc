// Modules with state: gradients reach what they should, state is saved, loaded and moved.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "ood/ood.h"
#include "ood/torch.h"

namespace ood {
namespace {

const auto kTarget = torch::tensor({0, 1, 2, 0, -1, -1});

at::Tensor logits() {
  torch::manual_seed(3);
  return torch::randn({6, 3}).requires_grad_();
}

// The same module from its saved state.
template <class Module>
void expect_same_after_loading(Module from, Module to) {
  std::stringstream stream;
  torch::save(from, stream);
  torch::load(to, stream);
  const auto a = from->named_buffers(), b = to->named_buffers();
  for (const auto& buffer : a) EXPECT_TRUE(buffer.value().equal(b[buffer.key()])) << buffer.key();
  const auto p = from->named_parameters(), q = to->named_parameters();
  for (const auto& parameter : p)
    EXPECT_TRUE(parameter.value().equal(q[parameter.key()])) << parameter.key();
}

TEST(StatefulLosses, ConfidenceFollowsItsBudgetInTrainingOnly) {
  nn::ConfidenceLoss criterion(0.1, 0.3, 0.5);
  const auto x = logits(), u = torch::zeros({6}).requires_grad_();
  criterion(x, u, kTarget).backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
  EXPECT_TRUE(u.grad().slice(0, 4).eq(0).all().item<bool>());  // OOD rows take no part
  EXPECT_NEAR(criterion->state("lambda").item<double>(), 0.1 / 0.99,
              1e-7);  // -log 0.5 is above the budget
  criterion->eval();
  criterion(x, u, kTarget);
  criterion->train();
  criterion(x, u, torch::full({6}, -1));  // says nothing of the confidence
  EXPECT_NEAR(criterion->state("lambda").item<double>(), 0.1 / 0.99, 1e-7);
  expect_same_after_loading(criterion, nn::ConfidenceLoss(0.5));
}

TEST(StatefulLosses, VosTrainsItsWeightsAndLayer) {
  nn::VOSRegLoss criterion(3);
  const auto x = logits();
  criterion(x, kTarget).backward();
  for (const auto& p : criterion->parameters()) EXPECT_TRUE(p.grad().defined());
  EXPECT_NEAR(
      (criterion->state("phi.weight")[1] - criterion->state("phi.weight")[0]).item<double>(), 1,
      1e-6);
  expect_same_after_loading(criterion, nn::VOSRegLoss(3));
}

TEST(StatefulLosses, SynthesisWaitsForFullQueuesAndLeavesTheFeaturesAlone) {
  nn::VirtualOutlierSynthesizingRegLoss criterion(3, 4, 2, 100, 2);
  torch::nn::Linear last(4, 3);
  const auto target = torch::tensor({0, 0, 1, 1, 2, 2});
  const auto features = torch::randn({6, 4}).requires_grad_();
  const auto plain = torch::randn({6, 3});
  EXPECT_NEAR(criterion(plain, features, target,
                        [&](const at::Tensor&) -> at::Tensor {
                          ADD_FAILURE() << "drew before the queues were full";
                          return {};
                        })
                  .item<double>(),
              torch::nn::functional::cross_entropy(plain, target).item<double>(), 1e-6);
  EXPECT_TRUE(criterion->state("counts").ge(2).all().item<bool>());
  at::Tensor outliers;
  criterion(plain, features, target, [&](const at::Tensor& drawn) {
    outliers = drawn;
    return last(drawn);
  }).backward();
  EXPECT_EQ(outliers.sizes(), (std::vector<std::int64_t>{6, 4}));
  EXPECT_FALSE(outliers.requires_grad());
  EXPECT_GT(last->weight.grad().abs().sum().item<double>(), 0);
  EXPECT_FALSE(features.grad().defined());
  expect_same_after_loading(criterion, nn::VirtualOutlierSynthesizingRegLoss(3, 4, 2, 100, 2));
}

TEST(StatefulLosses, CountsAndSumsKeepTheirTypeWhateverTheModuleIsConvertedTo) {
  nn::VirtualOutlierSynthesizingRegLoss criterion(2, 3, 4, 50);
  const auto logits = torch::randn({8, 2});
  const auto fill = torch::randn({8, 3}) + 300;  // sums beyond what float16 holds
  const auto head = [&](const at::Tensor& f) { return f.slice(1, 0, 2); };
  const auto labels = torch::arange(8).remainder(2);
  criterion(logits, fill, labels, head);
  const auto counts = criterion->state("counts").clone(),
             moment = criterion->state("moment").clone();
  for (const auto type : {torch::kBFloat16, torch::kHalf, torch::kDouble, torch::kFloat})
    criterion->to(type);
  EXPECT_EQ(criterion->state("queue").scalar_type(), torch::kFloat);
  EXPECT_TRUE(criterion->state("counts").equal(counts));
  EXPECT_TRUE(criterion->state("moment").equal(moment));
  criterion(logits, fill, torch::full({8}, -1), head);  // nothing for the queues
  EXPECT_TRUE(criterion(logits, fill, labels, head).isfinite().item<bool>());

  nn::IILoss ii(2, 3);
  for (int i = 0; i < 300; ++i) ii->forward(fill, labels);
  const auto seen = ii->state("running.counts").clone();
  ii->to(torch::kBFloat16);
  ii->to(torch::kFloat);
  EXPECT_TRUE(ii->state("running.counts").equal(seen));
}

TEST(StatefulLosses, EnergyMarginTakesLogSumsOfOutliersDownWhateverItsSlope) {
  nn::EnergyMarginLoss criterion(0.3, 2.0);
  {
    const torch::NoGradGuard no_grad;
    criterion->state("phi.weight").fill_(3.0);
  }
  const auto x = logits();
  criterion(x, torch::full_like(kTarget, -1)).backward();
  EXPECT_TRUE(x.grad().sum(1).gt(0).all().item<bool>());
  EXPECT_GT(criterion->state("phi.weight").grad().abs().item<double>(), 0);
}

struct Holder : torch::nn::Cloneable<Holder> {
  Holder() { reset(); }
  void reset() override { loss = register_module("loss", nn::MCHADLoss(4, 5)); }
  nn::MCHADLoss loss{nullptr};
};

TEST(StatefulLosses, ACloneHasTheSameStateOfItsOwn) {
  const auto check = [](auto module, std::string_view name) {
    torch::manual_seed(5);
    using Impl = typename decltype(module)::Impl;
    const auto copy = std::dynamic_pointer_cast<Impl>(module->clone());
    ASSERT_NE(copy, nullptr);
    EXPECT_TRUE(copy->state(name).equal(module->state(name))) << name;
    EXPECT_EQ(copy->state(name).requires_grad(), module->state(name).requires_grad());
    EXPECT_EQ(copy->named_parameters().size(), module->named_parameters().size());
    const torch::NoGradGuard no_grad;
    copy->state(name).fill_(7);
    EXPECT_FALSE(copy->state(name).equal(module->state(name))) << name;
    // What is registered is what the loss reads.
    auto registered = copy->named_parameters();
    registered.update(copy->named_buffers());
    EXPECT_TRUE(registered[std::string(name)].eq(7).all().template item<bool>()) << name;
  };
  check(nn::MCHADLoss(4, 5), "centers.centers");
  check(nn::CenterLoss(4, 5), "centers.centers");
  check(nn::VOSRegLoss(4), "phi.weight");
  check(nn::EnergyMarginLoss(0.3), "state");
  check(nn::VirtualOutlierSynthesizingRegLoss(3, 4), "phi.bias");
  // In a network, too.
  const Holder whole;
  const auto copy = std::dynamic_pointer_cast<Holder>(whole.clone());
  ASSERT_NE(copy, nullptr);
  EXPECT_TRUE(copy->loss->state("centers.centers").equal(whole.loss->state("centers.centers")));
}

TEST(StatefulLosses, AnUpdateWithoutItsInputsIsRefused) {
  const Event step;
  Event epoch;
  epoch.kind = Event::kEpoch;
  nn::DeepSVDDLoss svdd(5, 0.5);
  EXPECT_THROW(svdd->update(step), c10::ValueError);
  EXPECT_THROW(svdd->update(step, std::vector<at::Tensor>{torch::randn({6, 5})}), c10::ValueError);
  EXPECT_THROW(nn::VirtualOutlierSynthesizingRegLoss(4, 5)->update(step), c10::ValueError);
  EXPECT_THROW(nn::ConfidenceLoss()->update(step), c10::ValueError);
  EXPECT_THROW(nn::EnergyMarginLoss()->update(epoch), c10::ValueError);
  const std::vector<std::vector<at::Tensor>> broken{{torch::full({6, 5}, NAN), kTarget}};
  EXPECT_THROW(svdd->begin(broken), c10::ValueError);
}

TEST(StatefulLosses, EnergyMarginMovesItsMultipliersAtTheEndOfAnEpoch) {
  nn::PlainOptions<EnergyMargin> options;
  options.formula.false_alarm = options.formula.tau = 0;
  nn::EnergyMarginLoss criterion(options);
  const std::vector<std::vector<at::Tensor>> batches{{logits().detach(), kTarget},
                                                     {logits().detach() * 2, kTarget}};
  criterion->begin(batches);
  const auto before = criterion->state("state").clone();
  EXPECT_GT(before[4].item<double>(), 0);
  criterion->end_epoch(batches);
  const auto after = criterion->state("state");
  EXPECT_GT(after[0].item<double>(), before[0].item<double>());  // both constraints are violated
  EXPECT_GT(after[2].item<double>(), before[2].item<double>());
  EXPECT_EQ(after[4].item<double>(), before[4].item<double>());
}

TEST(StatefulLosses, EnergyMarginKeepsItsMultipliers) {
  nn::EnergyMarginLoss criterion(0.3);
  const auto x = logits();
  criterion(x, kTarget).backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
  expect_same_after_loading(criterion, nn::EnergyMarginLoss(0.9));
  EXPECT_THROW(nn::EnergyMarginLoss(0.3, -1.0), c10::ValueError);
  criterion->to(torch::kDouble);
  EXPECT_EQ(criterion->state("state").scalar_type(), torch::kDouble);
  const auto wide = x.detach().to(torch::kDouble);
  EXPECT_EQ(criterion(wide, kTarget).scalar_type(), torch::kDouble);
}

}  // namespace
}  // namespace ood
