#pragma once

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ood/ops/dispatch.h"
#include "ood/ops/functorch.h"
#include "ood/ops/layout.h"
#include "ood/ops/row_terms.h"

/// What the dispatch of row_terms and of loss share.
namespace ood::ops {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Parameters = c10::ArrayRef<double>;
using Label = std::optional<std::int64_t>;

#define OOD_ROW_ARGS                                                                       \
  [[maybe_unused]] const Tensor &logits, [[maybe_unused]] const Tensor &target,            \
      [[maybe_unused]] std::string_view objective, [[maybe_unused]] Parameters parameters, \
      [[maybe_unused]] const OptionalTensor &extras,                                       \
      [[maybe_unused]] const OptionalTensor &weight, [[maybe_unused]] bool per_row,        \
      [[maybe_unused]] Label ignore_index
#define OOD_ROW_CALL \
  RowTermsArguments { logits, target, extras, weight, objective, parameters, per_row, ignore_index }

inline bool usable(const OptionalTensor& t) { return t.has_value() && t->defined(); }

inline bool fits(const OptionalTensor& t) { return !usable(t) || fused(*t); }

/// A tensor return of a schema is never undefined; one that is not wanted is empty.
inline Tensor or_empty(const Tensor& t, const Tensor& like) {
  return t.defined() ? t : at::empty({0}, like.options());
}

/// Calls with labels of int64, further inputs of the computing type and the registry's own name.
template <class Call>
auto with_computing_types(const RowTermsArguments& a, const Call& call) {
  TORCH_CHECK_TYPE(a.logits.is_floating_point(), a.objective,
                   ": expected logits of a floating type, got ", a.logits.scalar_type());
  TORCH_CHECK_TYPE(at::isIntegralType(a.target.scalar_type(), false), a.objective,
                   ": expected target of an integer type, got ", a.target.scalar_type());
  for (const Tensor* t : {&a.target, usable(a.extras) ? &*a.extras : nullptr,
                          usable(a.weight) ? &*a.weight : nullptr})
    TORCH_CHECK_VALUE(t == nullptr || t->device() == a.logits.device(), a.objective,
                      ": expected all tensors on ", a.logits.device(),
                      ", where the logits are, got one on ", t->device());
  const ObjectiveEntry& entry = get_objective(a.objective);
  TORCH_CHECK_VALUE(entry.is_formula(), a.objective,
                    ": expected an objective that is a formula of ",
                    "logits; this one has a module of its own, ", entry.class_name);
  const auto cast = [type = computing_type(a.logits)](const OptionalTensor& t) {
    return usable(t) ? OptionalTensor(t->to(type)) : std::nullopt;
  };
  const auto label = a.target.scalar_type() == at::kLong ? a.target : a.target.to(at::kLong);
  const OptionalTensor extras = cast(a.extras), weight = cast(a.weight);
  return call(RowTermsArguments{a.logits, label, extras, weight, entry.name, a.parameters,
                                a.per_row, a.ignore_index});
}

struct RowGradients {
  Tensor logits, extras, weight;
};

/// See gradients_with_graph in dispatch.h; of logits, extras and weight.
template <class Output>
RowGradients row_gradients_with_graph(const RowTermsArguments& a, const WantedGradients& want,
                                      const Tensor& upstream, const Output& output) {
  const auto or_none = [](const OptionalTensor& t) { return usable(t) ? *t : Tensor(); };
  const auto or_nothing = [](const Tensor& t) {
    return t.defined() ? OptionalTensor(t) : std::nullopt;
  };
  const std::int64_t bits = want.logits | want.extras << 1 | want.weight << 2;
  const auto g = gradients_with_graph(
      [&](const std::vector<Tensor>& in) {
        const OptionalTensor extras = or_nothing(in[1]), weight = or_nothing(in[2]);
        return output(RowTermsArguments{in[0], a.target, extras, weight, a.objective, a.parameters,
                                        a.per_row, a.ignore_index});
      },
      std::vector<Tensor>{a.logits, or_none(a.extras), or_none(a.weight)}, bits, upstream);
  return {g[0], g[1], g[2]};
}

}  // namespace ood::ops
