// What the training loop sees of every objective: its loss is the sum of its terms, and its
// gradient that of its value.
#include <gtest/gtest.h>

#include "ood/train/objective.h"

namespace ood {
namespace {

constexpr std::int64_t kRows = 24, kClasses = 4, kFeatures = 6;

struct Batch {
  std::shared_ptr<Objective> objective;
  NetworkOutput output;
  at::Tensor target;
};

Batch batch_for(const ObjectiveEntry& entry) {
  torch::manual_seed(20261122);
  const auto double_type = torch::TensorOptions().dtype(torch::kDouble);
  const auto last_layer = torch::randn({kFeatures, kClasses}, double_type);
  const auto outputs = entry.embedding > 0
                           ? entry.embedding
                           : kClasses + (entry.ood_is_last_class ? 1 : 0) + entry.further_outputs;
  Batch b;
  const auto head = [last_layer](const at::Tensor& f) { return f.mm(last_layer); };
  b.objective = std::make_shared<Objective>(entry, entry.defaults(),
                                            ObjectiveContext{kClasses, kFeatures, 1, head});
  // Module::to would convert counts, too.
  for (auto& t : b.objective->parameters()) t.set_data(t.to(torch::kDouble));
  for (auto& t : b.objective->buffers())
    if (t.is_floating_point()) t.set_data(t.to(torch::kDouble));
  b.objective->train();
  b.output = {torch::randn({kRows, outputs}, double_type),
              torch::randn({kRows, kFeatures}, double_type)};
  b.target = torch::arange(kRows).remainder(kClasses);
  if (entry.uses_ood) b.target.slice(0, kRows / 2).fill_(-1);
  return b;
}

// What the objective draws is the same each time.
NamedLosses losses_of(const Objective& objective, const NetworkOutput& output,
                      const at::Tensor& target) {
  torch::manual_seed(7);
  return objective.forward(output, target, objective.draw(output, target));
}

// Fresh objectives, so that no state of one evaluation reaches the next.
double loss_at(const ObjectiveEntry& entry, const NetworkOutput& direction, double step) {
  const Batch b = batch_for(entry);
  const NamedLosses losses = losses_of(
      *b.objective,
      {b.output.logits + step * direction.logits, b.output.features + step * direction.features},
      b.target);
  double terms = 0;
  for (const auto& [name, value] : losses.terms) terms += value.item<double>();
  EXPECT_NEAR(losses.total.item<double>(), terms, 1e-9) << entry.name;
  return losses.total.item<double>();
}

TEST(Objectives, TheGradientOfTheLossIsThatOfItsValue) {
  for (const ObjectiveEntry* entry : objectives()) {
    const Batch b = batch_for(*entry);
    const auto logits = b.output.logits.clone().requires_grad_();
    const auto features = b.output.features.clone().requires_grad_();
    losses_of(*b.objective, {logits, features}, b.target).total.backward();
    const auto gradient = [](const at::Tensor& t) {
      return t.grad().defined() ? t.grad() : torch::zeros_like(t);
    };
    for (int i = 0; i < 3; ++i) {
      torch::manual_seed(i);
      const NetworkOutput direction{torch::randn_like(b.output.logits),
                                    torch::randn_like(b.output.features)};
      const double along = (gradient(logits) * direction.logits).sum().item<double>() +
                           (gradient(features) * direction.features).sum().item<double>();
      constexpr double kStep = 1e-6;
      const double slope =
          (loss_at(*entry, direction, kStep) - loss_at(*entry, direction, -kStep)) / (2 * kStep);
      EXPECT_NEAR(along, slope, 1e-5 * std::max(1.0, std::abs(slope))) << entry->name;
    }
  }
}

// Module::to(dtype) reaches counts and exact sums, too.
TEST(Objectives, ConvertedToFloat64TheyTrainOnWithTheirState) {
  for (const ObjectiveEntry* entry : objectives()) {
    double losses[2];
    for (const auto type : {torch::kFloat, torch::kDouble}) {
      const Batch b = batch_for(*entry);
      b.objective->to(torch::kFloat);
      const auto step = [&](at::ScalarType t) {
        const NetworkOutput output{b.output.logits.to(t), b.output.features.to(t)};
        const double loss = losses_of(*b.objective, output, b.target).total.item<double>();
        b.objective->after_step(output, b.target, 1);
        return loss;
      };
      step(torch::kFloat);
      b.objective->to(type);
      for (int i = 0; i < 2; ++i) losses[type == torch::kDouble] = step(type);
    }
    EXPECT_NEAR(losses[0], losses[1], 1e-5 * std::max(1.0, std::abs(losses[0]))) << entry->name;
  }
}

}  // namespace
}  // namespace ood
