#include "ood/train/objective.h"

#include <map>

#include "ood/train/formula_terms.h"

namespace ood {
namespace {

class FormulaObjective : public Objective {
 public:
  FormulaObjective(const ObjectiveEntry& entry, std::vector<double> parameters)
      : entry_(entry), parameters_(std::move(parameters)) {}

  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    return named(entry_, formula_terms(entry_, parameters_, output.logits, target, std::nullopt));
  }

  at::Tensor class_logits(const NetworkOutput& output) const override {
    return entry_.ood_is_last_class ? output.logits.slice(1, 0, -1) : output.logits;
  }

  at::Tensor own_score(const NetworkOutput& output) const override {
    // The background column takes part in the softmax and is dropped after it.
    if (entry_.ood_is_last_class) return output.logits.softmax(1).slice(1, 0, -1).amax(1).neg();
    return {};
  }

 private:
  const ObjectiveEntry& entry_;
  std::vector<double> parameters_;
};

std::map<std::string, ObjectiveMaker, std::less<>>& makers() {
  static std::map<std::string, ObjectiveMaker, std::less<>> all;
  return all;
}

}  // namespace

Losses sum_of(std::vector<std::pair<std::string, at::Tensor>> terms) {
  Losses losses;
  for (const auto& [name, value] : terms)
    losses.total = losses.total.defined() ? losses.total + value : value;
  for (auto& [name, value] : terms) value = value.detach();
  losses.terms = std::move(terms);
  return losses;
}

bool register_objective_module(std::string_view name, ObjectiveMaker maker) {
  return makers().emplace(name, maker).second;
}

std::shared_ptr<Objective> make_objective(const ObjectiveEntry& entry,
                                          const std::vector<double>& parameters,
                                          const ObjectiveContext& context) {
  check_parameters(entry, parameters.data(), parameters.size());
  if (const auto it = makers().find(entry.name); it != makers().end())
    return it->second(parameters, context);
  TORCH_CHECK_VALUE(entry.is_formula() && entry.extras.empty(), entry.name,
                    ": is registered without a module to train with");
  return std::make_shared<FormulaObjective>(entry, parameters);
}

}  // namespace ood
