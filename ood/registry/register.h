#pragma once

#include <ATen/ops/stack.h>

#include "ood/formula/tensor_row.h"
#include "ood/registry/registry.h"

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

/// sums [2, T] and counts [2] of row_terms -> the terms [T].
template <class Formula>
at::Tensor combine_tensors(const double* parameters, const at::Tensor& sums,
                           const at::Tensor& counts) {
  constexpr std::size_t kTerms = Formula::kTerms.size();
  const auto means = sums / counts.clamp_min(1).to(sums.scalar_type()).unsqueeze(1);
  std::array<at::Tensor, kTerms> id, other;
  for (std::size_t t = 0; t < kTerms; ++t) {
    id[t] = means.select(0, 0).select(0, static_cast<std::int64_t>(t));
    other[t] = means.select(0, 1).select(0, static_cast<std::int64_t>(t));
  }
  const auto terms = with_parameters<Formula>(parameters).combine(id, other, counts.gt(0).all());
  return at::stack(c10::ArrayRef<at::Tensor>(terms.data(), terms.size()));
}

template <class Formula>
void combine_means(const double* parameters, const BatchMeans& means, CombinedMeans& out) {
  constexpr std::size_t kTerms = Formula::kTerms.size();
  using Number = Dual<double, 2 * static_cast<int>(kTerms)>;
  std::array<Number, kTerms> id, other;
  for (std::size_t t = 0; t < kTerms; ++t) {
    id[t] = Number::variable(means.values[t], static_cast<int>(t));
    other[t] = Number::variable(means.values[kTerms + t], static_cast<int>(kTerms + t));
  }
  out.terms.clear();
  out.derivatives.assign(2 * kTerms, 0.0);
  const auto terms = with_parameters<Formula>(parameters).combine(id, other, means.both);
  static_assert(terms.size() == kTerms, "combine() is to give as many terms as kTerms names");
  for (const auto& term : terms) {
    out.terms.push_back(term.value);
    for (std::size_t m = 0; m < 2 * kTerms; ++m) out.derivatives[m] += term.partial[m];
  }
}

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
  static_assert(
      CombinesMeans<Formula> || !requires { &Formula::combine; },
      "combine() is to be a template that takes two arrays of means and whether both are");
  if constexpr (CombinesMeans<Formula>) {
    e.combine = &combine_tensors<Formula>;
    e.combine_means = &combine_means<Formula>;
  }
  return e;
}

/// The functions of a slice that are members of `S`, each called on an `S` of the given parameters.
template <class S>
SliceEntry slice_entry() {
  SliceEntry e;
#define OOD_MEMBER(name, ...)                                          \
  if constexpr (requires { &S::name; })                                \
    e.name = [](Numbers parameters, auto... arguments) {               \
      return with_parameters<S>(parameters.data()).name(arguments...); \
    };
  OOD_MEMBER(start)
  OOD_MEMBER(draw)
  OOD_MEMBER(prepare)
  OOD_MEMBER(composite)
  OOD_MEMBER(parts)
  OOD_MEMBER(update)
  OOD_MEMBER(readout)
  OOD_MEMBER(distances)
  OOD_MEMBER(check)
  OOD_MEMBER(training_target)
#undef OOD_MEMBER
  if constexpr (requires { S::kInputs; })
    e.inputs.assign(S::kInputs.begin(), S::kInputs.end());
  else
    e.inputs = {{"logits", Input::kLogits}};
  if constexpr (requires { S::kState; }) e.state.assign(S::kState.begin(), S::kState.end());
  if constexpr (requires { S::kTargetName; }) e.target = S::kTargetName;
  if constexpr (requires { S::kByClass; }) e.by_class = S::kByClass;
  if constexpr (requires { S::kByDimension; }) e.by_dimension = S::kByDimension;
  if constexpr (requires { S::kOutliersThroughHead; })
    e.outliers_through_head = S::kOutliersThroughHead;
  if constexpr (requires { S::kUpdatesEachStep; }) e.updates_each_step = S::kUpdatesEachStep;
  if constexpr (requires { S::kUpdatesFirst; }) e.updates_first = S::kUpdatesFirst;
  return e;
}

/// What describes an objective, and its functions.
template <class S>
ObjectiveEntry objective_entry() {
  ObjectiveEntry e{};
  static_cast<Card&>(e) = S::kCard;
  e.parameters = parameter_entries<S>();
  e.terms.assign(S::kTerms.begin(), S::kTerms.end());
  if constexpr (requires { S::kExtras; }) e.extras.assign(S::kExtras.begin(), S::kExtras.end());
  if constexpr (requires { S::kExclusions; })
    e.exclusions.assign(S::kExclusions.begin(), S::kExclusions.end());
  if constexpr (requires { S::kUses; }) e.row = formula_entry<S>();
  e.slice = slice_entry<S>();
  return e;
}

}  // namespace ood

/// Enters an objective into the registry when the library that holds this file is loaded.
#define OOD_REGISTER(Objective)                                   \
  [[maybe_unused]] static const bool ood_registered_##Objective = \
      ::ood::register_objective(::ood::objective_entry<Objective>())
