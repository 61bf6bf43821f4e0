#pragma once

#include <utility>

#include "ood/objectives/registry.h"

namespace ood {

template <class Formula>
std::vector<at::Tensor> composite_terms(const double* parameters, const TensorRow& row,
                                        const at::Tensor& known) {
  const auto values = with_parameters<Formula>(parameters)(row, known);
  return {values.begin(), values.end()};
}

// One function per instruction set around the same text; `flatten` makes it all part of the
// function and so of its instruction set.
#if defined(__x86_64__) && defined(__GNUC__)
#define OOD_TARGET(options) [[gnu::target(options), gnu::flatten]]
#else
#define OOD_TARGET(options)
#endif
#define OOD_EVALUATOR(level, target)                                                        \
  template <class Formula, class F>                                                         \
  target void forward_##level(const double* parameters, const RowBlock<F>& block,           \
                              const ForwardResult<F>& out) {                                \
    evaluate_forward<Formula>(parameters, block, out);                                      \
  }                                                                                         \
  template <class Formula, class F>                                                         \
  target void backward_##level(const double* parameters, const RowBlock<F>& block,          \
                               const Upstream<F>& upstream, const BackwardResult<F>& out) { \
    evaluate_backward<Formula>(parameters, block, upstream, out);                           \
  }
OOD_EVALUATOR(baseline, )
OOD_EVALUATOR(avx2, OOD_TARGET("avx2,fma"))
#undef OOD_EVALUATOR
#undef OOD_TARGET

template <class Formula>
FormulaEntry formula_entry() {
  FormulaEntry e{};
  e.statistics = Formula::kUses;
  e.scaled = ScaledFormula<Formula>;
  e.needs_input = needs_input<Formula>();
  e.f32 = {{{&forward_baseline<Formula, float>, &backward_baseline<Formula, float>},
            {&forward_avx2<Formula, float>, &backward_avx2<Formula, float>}}};
  e.f64 = {&forward_baseline<Formula, double>, &backward_baseline<Formula, double>};
  e.composite = &composite_terms<Formula>;
  if constexpr (ScaledFormula<Formula>) {
    e.scale_f32 = &evaluate_scale<Formula, float>;
    e.scale_f64 = &evaluate_scale<Formula, double>;
    e.composite_scale = +[](const double* parameters, const at::Tensor& sqnorm) -> at::Tensor {
      return with_parameters<Formula>(parameters).scale(sqnorm);
    };
  }
  if constexpr (requires { &Formula::combine; })
    e.combine = +[](const double* parameters, const at::Tensor& sums, const at::Tensor& counts) {
      return with_parameters<Formula>(parameters).combine(sums, counts);
    };
  return e;
}

/// The entry of an objective that is no formula: `Objective` describes itself with the same
/// members.
template <class Formula>
ObjectiveEntry description() {
  ObjectiveEntry e{};
  e.name = Formula::kName;
  e.class_name = Formula::kClassName;
  e.summary = Formula::kSummary;
  e.formula = Formula::kFormula;
  e.paper = Formula::kPaper;
  e.score = Formula::kScore;
  e.ood_labels = Formula::kOodLabels;
  e.uses_ood = Formula::kUsesOod;
  e.balance = Formula::kBalance;
  for (const auto& p : Formula::kParameters)
    e.parameters.push_back({p.name, Formula{}.*p.member, p.min, p.max, p.help, p.source});
  e.terms.assign(Formula::kTerms.begin(), Formula::kTerms.end());
  if constexpr (requires { Formula::kExtras; })
    e.extras.assign(Formula::kExtras.begin(), Formula::kExtras.end());
  if constexpr (requires { Formula::kExclusions; })
    e.exclusions.assign(Formula::kExclusions.begin(), Formula::kExclusions.end());
  if constexpr (requires { Formula::kInput; }) e.input = Formula::kInput;
  if constexpr (requires { Formula::kPitfalls; }) e.pitfalls = Formula::kPitfalls;
  if constexpr (requires { Formula::kOodIsLastClass; })
    e.ood_is_last_class = Formula::kOodIsLastClass;
  if constexpr (requires { Formula::kEmbedding; }) e.embedding = Formula::kEmbedding;
  if constexpr (requires { Formula::kFurtherOutputs; })
    e.further_outputs = Formula::kFurtherOutputs;
  if constexpr (requires { Formula::kLearningRate; }) e.learning_rate = Formula::kLearningRate;
  if constexpr (requires { Formula::kClassifies; }) e.classifies = Formula::kClassifies;
  if constexpr (requires { Formula::kWithoutBias; }) e.without_bias = Formula::kWithoutBias;
  if constexpr (requires { Formula::kTrainsFeatures; })
    e.trains_features = Formula::kTrainsFeatures;
  return e;
}

template <class Formula>
ObjectiveEntry objective_entry() {
  auto e = description<Formula>();
  e.row = formula_entry<Formula>();
  return e;
}

}  // namespace ood

/// Enters a formula into the registry when the library that holds this file is loaded.
#define OOD_REGISTER_FORMULA(Formula)                           \
  [[maybe_unused]] static const bool ood_registered_##Formula = \
      ::ood::register_objective(::ood::objective_entry<Formula>())

/// The same for an objective that is no formula.
#define OOD_REGISTER_DESCRIPTION(Objective)                       \
  [[maybe_unused]] static const bool ood_registered_##Objective = \
      ::ood::register_objective(::ood::description<Objective>())
