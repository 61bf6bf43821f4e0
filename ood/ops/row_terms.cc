// Schema and dispatch of row_terms: CPU, Meta, Autograd, functorch and every other device.
#include "ood/ops/row_terms.h"

#include <ATen/ops/dot.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ood/ops/functorch.h"
#include "ood/ops/layout.h"

namespace ood {
namespace {

namespace ag = torch::autograd;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Parameters = c10::ArrayRef<double>;
using Label = std::optional<std::int64_t>;

#define OOD_ROW_ARGS                                                                             \
  const Tensor &logits, const Tensor &target, std::string_view objective, Parameters parameters, \
      const OptionalTensor &extras, const OptionalTensor &weight, bool per_row, Label ignore_index
#define OOD_ROW_CALL \
  RowTermsArguments { logits, target, extras, weight, objective, parameters, per_row, ignore_index }

using Terms = std::tuple<Tensor, Tensor>;
using Forward = std::tuple<Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor>;

Forward forward_cpu(OOD_ROW_ARGS) {
  auto parts = ops::row_terms_cpu(OOD_ROW_CALL);
  return {parts.terms, parts.counts, parts.statistics};
}

Forward forward_meta(OOD_ROW_ARGS) {
  const ObjectiveEntry& entry = get_objective(objective);
  ops::check_inputs(entry, logits, target, extras, weight);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
  auto shape = target.sym_sizes().vec();
  shape.insert(shape.begin(), terms);
  return {
      per_row ? at::empty_symint(shape, logits.options()) : at::empty({2, terms}, logits.options()),
      at::empty({2}, target.options().dtype(at::kLong)),
      at::empty_symint({ops::StatisticsLayout(entry.row).count, target.sym_numel()},
                       logits.options())};
}

// A tensor return of a schema is never undefined; one that is not wanted is empty.
Tensor or_empty(const Tensor& t, const Tensor& like) {
  return t.defined() ? t : at::empty({0}, like.options());
}

Backward backward_cpu(const Tensor& upstream, const Tensor& statistics, OOD_ROW_ARGS,
                      bool want_extras, bool want_weight) {
  const auto parts =
      ops::row_terms_backward_cpu(upstream, OOD_ROW_CALL, statistics, want_extras, want_weight);
  return {parts.logits, or_empty(parts.extras, logits), or_empty(parts.weight, logits)};
}

Backward backward_meta(const Tensor&, const Tensor&, OOD_ROW_ARGS, bool want_extras,
                       bool want_weight) {
  const bool give_extras = want_extras && extras.has_value() && extras->defined();
  const bool give_weight = want_weight && weight.has_value() && weight->defined();
  return {ops::empty_like_layout(logits),
          give_extras ? at::empty_symint(extras->sym_sizes(), logits.options())
                      : at::empty({0}, logits.options()),
          give_weight ? at::empty_symint(target.sym_sizes(), logits.options())
                      : at::empty({0}, logits.options())};
}

auto& forward_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::_row_terms_forward", "")
                       .typed<Forward(OOD_ROW_ARGS)>();
  return op;
}

auto& backward_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::_row_terms_backward", "")
                       .typed<Backward(const Tensor&, const Tensor&, OOD_ROW_ARGS, bool, bool)>();
  return op;
}

auto& row_terms_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::row_terms", "")
                       .typed<Terms(OOD_ROW_ARGS)>();
  return op;
}

bool usable(const OptionalTensor& t) { return t.has_value() && t->defined(); }

// What the autograd function returns of the terms.
enum class Output : std::int64_t { kTerms, kSum, kMeanPerPopulation, kMeanWholeBatch };

bool is_mean(Output o) { return o == Output::kMeanPerPopulation || o == Output::kMeanWholeBatch; }

// The reduction of the [2, T] sums is part of the function, because at small batches each further
// autograd node costs as much as the kernels.
struct RowTermsFunction : ag::Function<RowTermsFunction> {
  static ag::variable_list forward(ag::AutogradContext* ctx, OOD_ROW_ARGS, Output output) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [terms, counts, statistics] = forward_op().call(logits, target, objective, parameters,
                                                         extras, weight, per_row, ignore_index);
    Tensor weights;
    if (is_mean(output)) {
      weights = mean_weights(counts, terms.size(1), output == Output::kMeanWholeBatch,
                             terms.scalar_type());
      terms = at::dot(terms.view({-1}), weights.view({-1}));
    } else if (output == Output::kSum) {
      terms = terms.sum();
    }
    ctx->save_for_backward({logits, target, statistics, usable(extras) ? *extras : Tensor(),
                            usable(weight) ? *weight : Tensor(), weights});
    auto& data = ctx->saved_data;
    data["objective"] = std::string(objective);
    data["parameters"] = parameters.vec();
    data["per_row"] = per_row;
    data["ignore_index"] = ignore_index;
    data["output"] = static_cast<std::int64_t>(output);
    ctx->mark_non_differentiable({counts});
    return {terms, counts};
  }

  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const auto objective = data["objective"].toStringRef();
    const auto parameters = data["parameters"].toDoubleVector();
    const bool per_row = data["per_row"].toBool();
    const auto ignore_index = data["ignore_index"].toOptional<std::int64_t>();
    const auto output = static_cast<Output>(data["output"].toInt());
    const Tensor &logits = saved[0], &target = saved[1];
    const OptionalTensor extras = saved[3].defined() ? OptionalTensor(saved[3]) : std::nullopt;
    const OptionalTensor weight = saved[4].defined() ? OptionalTensor(saved[4]) : std::nullopt;
    const bool want_logits = ctx->needs_input_grad(0);
    // needs_input_grad counts the tensors among the inputs, absent ones excluded.
    const bool want_extras = extras && ctx->needs_input_grad(2);
    const bool want_weight = weight && ctx->needs_input_grad(extras ? 3 : 2);

    Tensor upstream = grads[0];
    if (is_mean(output)) upstream = upstream * saved[5];
    if (output == Output::kSum)
      upstream =
          upstream.expand({2, static_cast<std::int64_t>(get_objective(objective).terms.size())});

    Tensor to_logits, to_extras, to_weight;
    if (at::GradMode::is_enabled()) {
      // create_graph: only the composite has derivatives of any order.
      const auto terms = std::get<0>(ops::row_terms_composite(OOD_ROW_CALL));
      ag::variable_list inputs;
      std::vector<Tensor*> wanted;
      const auto want = [&](bool wanted_here, const Tensor& input, Tensor* grad) {
        if (!wanted_here) return;
        inputs.push_back(input);
        wanted.push_back(grad);
      };
      want(want_logits, logits, &to_logits);
      if (extras) want(want_extras, *extras, &to_extras);
      if (weight) want(want_weight, *weight, &to_weight);
      const auto result = ag::grad({terms}, inputs, {upstream}, /*retain_graph=*/true,
                                   /*create_graph=*/true, /*allow_unused=*/true);
      for (std::size_t i = 0; i < wanted.size(); ++i) *wanted[i] = result[i];
    } else {
      auto [g_logits, g_extras, g_weight] =
          backward_op().call(upstream, saved[2], logits, target, objective, parameters, extras,
                             weight, per_row, ignore_index, want_extras, want_weight);
      to_logits = g_logits;
      if (want_extras) to_extras = g_extras;
      if (want_weight) to_weight = g_weight;
    }
    return {to_logits, Tensor(), Tensor(), Tensor(), to_extras,
            to_weight, Tensor(), Tensor(), Tensor()};
  }
};

// Half types are computed in float32, labels are int64, and further inputs follow the logits.
template <class Call>
auto with_computing_types(OOD_ROW_ARGS, const Call& call) {
  TORCH_CHECK_TYPE(logits.is_floating_point(), objective,
                   ": expected logits of a floating type, got ", logits.scalar_type());
  TORCH_CHECK_TYPE(at::isIntegralType(target.scalar_type(), false), objective,
                   ": expected target of an integer type, got ", target.scalar_type());
  const ObjectiveEntry& entry = get_objective(objective);
  TORCH_CHECK_VALUE(entry.is_formula(), objective, ": expected an objective that is a formula of ",
                    "logits; this one has a module of its own, ", entry.class_name);
  const auto type =
      at::isReducedFloatingType(logits.scalar_type()) ? at::kFloat : logits.scalar_type();
  const auto cast = [&](const OptionalTensor& t) {
    return usable(t) ? OptionalTensor(t->to(type)) : std::nullopt;
  };
  auto label = target.scalar_type() == at::kLong ? target : target.to(at::kLong);
  label = ops::relabelled(entry, logits, label, ignore_index);
  return call(logits.to(type), label, objective, parameters, cast(extras), cast(weight), per_row,
              ignore_index);
}

Terms composite(OOD_ROW_ARGS) {
  return with_computing_types(
      logits, target, objective, parameters, extras, weight, per_row, ignore_index,
      [](OOD_ROW_ARGS) -> Terms { return ops::row_terms_composite(OOD_ROW_CALL); });
}

Terms below_autograd(OOD_ROW_ARGS) {
  return with_computing_types(logits, target, objective, parameters, extras, weight, per_row,
                              ignore_index, [](OOD_ROW_ARGS) -> Terms {
                                auto [terms, counts, statistics] =
                                    forward_op().call(logits, target, objective, parameters, extras,
                                                      weight, per_row, ignore_index);
                                return {terms, counts};
                              });
}

ag::variable_list apply_function(OOD_ROW_ARGS, Output output) {
  return with_computing_types(logits, target, objective, parameters, extras, weight, per_row,
                              ignore_index, [output](OOD_ROW_ARGS) -> ag::variable_list {
                                return RowTermsFunction::apply(logits, target, objective,
                                                               parameters, extras, weight, per_row,
                                                               ignore_index, output);
                              });
}

Terms autograd(OOD_ROW_ARGS) {
  if (!ops::fused(logits))
    return composite(logits, target, objective, parameters, extras, weight, per_row, ignore_index);
  const auto out = apply_function(logits, target, objective, parameters, extras, weight, per_row,
                                  ignore_index, Output::kTerms);
  return {out[0], out[1]};
}

// The loss: the terms of row_terms, reduced.

#define OOD_LOSS_ARGS                                                                            \
  const Tensor &logits, const Tensor &target, std::string_view objective, Parameters parameters, \
      const OptionalTensor &extras, const OptionalTensor &weight, std::string_view reduction,    \
      std::string_view balance, Label ignore_index
#define OOD_LOSS_PASS \
  logits, target, objective, parameters, extras, weight, reduction, balance, ignore_index

bool divide_by_whole_batch(const ObjectiveEntry& entry, std::string_view balance) {
  if (balance == "whole_batch") return true;
  if (balance == "per_population") return false;
  TORCH_CHECK_VALUE(balance == "default", entry.name,
                    ": expected balance default, per_population or whole_batch, got ", balance);
  return entry.balance == Balance::kWholeBatch;
}

bool wants_rows(const ObjectiveEntry& entry, std::string_view reduction) {
  TORCH_CHECK_VALUE(reduction == "none" || reduction == "mean" || reduction == "sum", entry.name,
                    ": expected reduction none, mean or sum, got ", reduction);
  return reduction == "none";
}

Tensor loss_of_terms(OOD_LOSS_ARGS) {
  const ObjectiveEntry& entry = get_objective(objective);
  const bool whole_batch = divide_by_whole_batch(entry, balance);
  const bool per_row = wants_rows(entry, reduction);
  const auto [terms, counts] = row_terms(OOD_ROW_CALL);
  if (entry.row.combine != nullptr) {
    TORCH_CHECK_VALUE(reduction == "mean", entry.name,
                      ": is a function of the whole batch; expected reduction mean, got ",
                      reduction);
    return entry.row.combine(parameters.data(), terms, counts).sum();
  }
  if (per_row) return terms.sum(0);
  if (reduction == "sum") return terms.sum();
  return terms.mul(mean_weights(counts, terms.size(1), whole_batch, terms.scalar_type())).sum();
}

Tensor loss_autograd(OOD_LOSS_ARGS) {
  const ObjectiveEntry& entry = get_objective(objective);
  if (wants_rows(entry, reduction) || entry.row.combine != nullptr || !ops::fused(logits))
    return loss_of_terms(OOD_LOSS_PASS);
  const Output output =
      divide_by_whole_batch(entry, balance) ? Output::kMeanWholeBatch : Output::kMeanPerPopulation;
  return apply_function(logits, target, objective, parameters, extras, weight, false, ignore_index,
                        reduction == "sum" ? Output::kSum : output)[0];
}

auto& loss_dispatcher_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::loss", "")
                       .typed<Tensor(OOD_LOSS_ARGS)>();
  return op;
}

}  // namespace

Terms row_terms(const RowTermsArguments& a) {
  return row_terms_op().call(a.logits, a.target, a.objective, a.parameters, a.extras, a.weight,
                             a.per_row, a.ignore_index);
}

Tensor loss(OOD_LOSS_ARGS) { return loss_dispatcher_op().call(OOD_LOSS_PASS); }

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::string row =
      "Tensor logits, Tensor target, str objective, float[] parameters, Tensor? extras=None, "
      "Tensor? weight=None, ";
  const std::string rest = "bool per_row=False, int? ignore_index=None";
  const auto def = [&](const std::string& schema) {
    m.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  };
  def("row_terms(" + row + rest + ") -> (Tensor terms, Tensor counts)");
  def("_row_terms_forward(" + row + rest + ") -> (Tensor, Tensor, Tensor)");
  def("_row_terms_backward(Tensor upstream, Tensor statistics, " + row + rest +
      ", bool want_extras=False, bool want_weight=False) -> (Tensor, Tensor, Tensor)");
  def("loss(" + row +
      "str reduction='mean', str balance='default', int? ignore_index=None) -> Tensor");
}
TORCH_LIBRARY_IMPL(ood, CPU, m) {
  m.impl("_row_terms_forward", forward_cpu);
  m.impl("_row_terms_backward", backward_cpu);
  m.impl("row_terms", below_autograd);
  m.impl("loss", loss_of_terms);
}
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("_row_terms_forward", forward_meta);
  m.impl("_row_terms_backward", backward_meta);
  m.impl("row_terms", below_autograd);
  m.impl("loss", loss_of_terms);
}
TORCH_LIBRARY_IMPL(ood, Autograd, m) {
  m.impl("row_terms", autograd);
  m.impl("loss", loss_autograd);
}
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) {
  m.impl("row_terms", composite);
  m.impl("loss", loss_of_terms);
}
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) {
  m.impl("row_terms", composite);
  m.impl("loss", loss_of_terms);
}

}  // namespace ood
