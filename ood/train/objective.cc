#include "ood/train/objective.h"

#include "ood/ops/row_terms.h"

namespace ood {
namespace {

class FormulaObjective : public Objective {
 public:
  FormulaObjective(const ObjectiveEntry& entry, std::vector<double> parameters)
      : entry_(entry), parameters_(std::move(parameters)) {}

  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto [sums, counts] = row_terms({output.logits, target, std::nullopt, std::nullopt,
                                           entry_.name, parameters_, false, std::nullopt});
    const auto weights = mean_weights(counts, sums.size(1), entry_.balance == Balance::kWholeBatch,
                                      sums.scalar_type());
    const auto means = sums.mul(weights).sum(0);
    Losses losses;
    losses.total = means.sum();
    for (std::size_t t = 0; t < entry_.terms.size(); ++t)
      losses.terms.emplace_back(entry_.terms[t], means.detach()[static_cast<std::int64_t>(t)]);
    return losses;
  }

 private:
  const ObjectiveEntry& entry_;
  std::vector<double> parameters_;
};

}  // namespace

std::shared_ptr<Objective> make_objective(const ObjectiveEntry& entry,
                                          const std::vector<double>& parameters) {
  check_parameters(entry, parameters.data(), parameters.size());
  return std::make_shared<FormulaObjective>(entry, parameters);
}

}  // namespace ood
