// The optimizer beside torch::optim, step by step and number by number.
#include "ood/train/optimizer.h"

#include <gtest/gtest.h>

namespace ood {
namespace {

using at::Tensor;

struct Network {
  Tensor a = torch::randn({4, 3}, torch::kDouble).requires_grad_();
  Tensor b = torch::randn({4, 3}, torch::kDouble).requires_grad_();
  Tensor late = torch::randn({3}, torch::kDouble).requires_grad_();  // has no gradient at first
  Tensor never = torch::randn({2}, torch::kDouble).requires_grad_();

  std::vector<Tensor> all() const { return {a, b, late, never}; }

  // The gradients of a and b share their storage.
  void backward(int step, const Tensor& x) const {
    auto y = x.matmul((a.flatten() + b.flatten()).view({4, 3}));
    if (step > 1) y = y * late;
    y.pow(2).sum().backward();
  }
};

std::unique_ptr<torch::optim::Optimizer> of_torch(const RunOptions& o, const Network& n) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<Tensor>{n.a});
  groups.emplace_back(std::vector<Tensor>{n.b, n.late, n.never});
  if (o.optimizer == "adamw")
    return std::make_unique<torch::optim::AdamW>(
        groups, torch::optim::AdamWOptions(o.lr).weight_decay(o.weight_decay));
  return std::make_unique<torch::optim::SGD>(groups, torch::optim::SGDOptions(o.lr)
                                                         .momentum(o.momentum)
                                                         .nesterov(o.momentum > 0)
                                                         .weight_decay(o.weight_decay));
}

TEST(Optimizer, TakesTheStepsOfTorch) {
  for (const std::string name : {"sgd", "adamw"})
    for (const double momentum : {0.9, 0.0})
      for (const double decay : {0.1, 0.0}) {
        RunOptions o;
        o.optimizer = name;
        o.momentum = momentum;
        o.weight_decay = decay;
        o.lr = 0.01;
        o.backbone_lr = 0.002;
        torch::manual_seed(0);
        const Network ours;
        torch::manual_seed(0);
        const Network theirs;
        Optimizer optimizer(o, ours.all(), /*of_backbone=*/1);
        const auto expected = of_torch(o, theirs);
        for (int step = 0; step < 6; ++step) {
          const double lr = 0.01 / (step + 1);
          const auto x = torch::randn({5, 4}, torch::kDouble);
          optimizer.zero_grad();
          expected->zero_grad();
          ours.backward(step, x);
          theirs.backward(step, x);
          ASSERT_TRUE(ours.a.grad().is_alias_of(ours.b.grad()));
          expected->param_groups()[0].options().set_lr(lr * 0.2);
          expected->param_groups()[1].options().set_lr(lr);
          if (step == 3) {  // as a training that goes on
            const auto state = optimizer.state();
            optimizer.restore({});
            optimizer.restore(state);
          }
          optimizer.step(lr);
          expected->step();
          for (std::size_t i = 0; i < ours.all().size(); ++i)
            EXPECT_TRUE(torch::equal(ours.all()[i], theirs.all()[i]))
                << name << ", momentum " << momentum << ", decay " << decay << ", step " << step
                << ", parameter " << i;
        }
        EXPECT_EQ(ours.never.grad().defined(), false);
      }
}

TEST(Optimizer, BoundsTheNormOfAllGradients) {
  const auto of = [](double bound) {
    torch::manual_seed(0);
    const Network n;
    n.backward(2, torch::randn({5, 4}, torch::kDouble));
    Optimizer optimizer(RunOptions(), n.all(), 0);
    optimizer.clip(bound);
    std::vector<Tensor> all;
    for (const auto& p : n.all())
      if (p.grad().defined()) all.push_back(p.grad().flatten());
    return torch::cat(all);
  };
  const auto whole = of(1e9);
  EXPECT_NEAR(of(0.5).norm().item<double>(), 0.5, 1e-6);
  EXPECT_TRUE(torch::allclose(of(0.5) / 0.5, whole / whole.norm(), 1e-6));
  EXPECT_TRUE(torch::equal(of(2 * whole.norm().item<double>()), whole));
}

}  // namespace
}  // namespace ood
