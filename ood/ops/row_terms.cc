// Schema and dispatch of row_terms: CPU, Meta, Autograd, functorch and every other device.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ood/ops/functorch.h"
#include "ood/ops/row_arguments.h"

namespace ood {
namespace ops {
namespace {

namespace ag = torch::autograd;
using Terms = std::tuple<Tensor, Tensor>;
using Forward = std::tuple<Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor>;

Forward forward_cpu(OOD_ROW_ARGS) {
  auto parts = row_terms_cpu(get_objective(objective), OOD_ROW_CALL);
  return {parts.terms, parts.counts, parts.statistics};
}

Forward forward_meta(OOD_ROW_ARGS) {
  const ObjectiveEntry& entry = get_objective(objective);
  check_inputs(entry, logits, target, extras, weight);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
  const auto options = logits.options().dtype(computing_type(logits));
  auto shape = target.sym_sizes().vec();
  shape.insert(shape.begin(), terms);
  return {per_row ? at::empty_symint(shape, options) : at::empty({2, terms}, options),
          at::empty({2}, target.options().dtype(at::kLong)),
          at::empty_symint({StatisticsLayout(entry.row).count, target.sym_numel()}, options)};
}

// Of a call by hand; what autograd gives is right.
void check_backward(const ObjectiveEntry& entry, const Tensor& upstream, const RowTermsArguments& a,
                    const Tensor& statistics) {
  check_inputs(entry, a.logits, a.target, a.extras, a.weight);
  check_parameters(entry.name, entry.parameters, a.parameters);
  const auto rows = a.target.numel(), terms = static_cast<std::int64_t>(entry.terms.size());
  const auto type = computing_type(a.logits);
  const auto has = [&](const at::Tensor& t, std::int64_t numbers, const char* what) {
    TORCH_CHECK_VALUE(t.numel() == numbers && t.scalar_type() == type, entry.name, ": expected ",
                      numbers, " ", what, " of ", type, ", got ", t.numel(), " of ",
                      t.scalar_type());
  };
  has(upstream, terms * (a.per_row ? rows : 2), "upstream gradients");
  has(statistics, StatisticsLayout(entry.row).count * rows, "statistics");
}

Backward backward_cpu(const Tensor& upstream, const Tensor& statistics, OOD_ROW_ARGS,
                      bool want_extras, bool want_weight) {
  const ObjectiveEntry& entry = get_objective(objective);
  check_backward(entry, upstream, OOD_ROW_CALL, statistics);
  const auto parts =
      row_terms_backward_cpu(entry, upstream, OOD_ROW_CALL, statistics, want_extras, want_weight);
  return {parts.logits, or_empty(parts.extras, upstream), or_empty(parts.weight, upstream)};
}

Backward backward_meta(const Tensor& upstream, const Tensor&, OOD_ROW_ARGS, bool want_extras,
                       bool want_weight) {
  const auto like = [&](bool want, const OptionalTensor& t) {
    return want && usable(t) ? at::empty_symint(t->sym_sizes(), upstream.options())
                             : at::empty({0}, upstream.options());
  };
  return {empty_like_layout(logits), like(want_extras, extras), like(want_weight, weight)};
}

auto& forward_op() {
  static auto op = find_op<Forward(OOD_ROW_ARGS)>("ood::_row_terms_forward");
  return op;
}

auto& backward_op() {
  static auto op = find_op<Backward(const Tensor&, const Tensor&, OOD_ROW_ARGS, bool, bool)>(
      "ood::_row_terms_backward");
  return op;
}

auto& row_terms_op() {
  static auto op = find_op<Terms(OOD_ROW_ARGS)>("ood::row_terms");
  return op;
}

struct RowTermsFunction : ag::Function<RowTermsFunction> {
  static ag::variable_list forward(ag::AutogradContext* ctx, OOD_ROW_ARGS) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [terms, counts, statistics] = forward_op().call(logits, target, objective, parameters,
                                                         extras, weight, per_row, ignore_index);
    ctx->save_for_backward({logits, target, statistics, usable(extras) ? *extras : Tensor(),
                            usable(weight) ? *weight : Tensor()});
    auto& data = ctx->saved_data;
    data["objective"] = std::string(objective);
    data["parameters"] = parameters.vec();
    data["per_row"] = per_row;
    data["ignore_index"] = ignore_index;
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
    const Tensor &logits = saved[0], &target = saved[1];
    const OptionalTensor extras = saved[3].defined() ? OptionalTensor(saved[3]) : std::nullopt;
    const OptionalTensor weight = saved[4].defined() ? OptionalTensor(saved[4]) : std::nullopt;
    // Inputs of the function; absent ones are left out.
    const WantedGradients want{ctx->needs_input_grad(0), extras && ctx->needs_input_grad(2),
                               weight && ctx->needs_input_grad(extras ? 3 : 2)};

    RowGradients to;
    if (at::GradMode::is_enabled()) {
      to = row_gradients_with_graph(OOD_ROW_CALL, want, grads[0], [](const RowTermsArguments& a) {
        return std::get<0>(row_terms_composite(a));
      });
    } else {
      auto [g_logits, g_extras, g_weight] =
          backward_op().call(grads[0], saved[2], logits, target, objective, parameters, extras,
                             weight, per_row, ignore_index, want.extras, want.weight);
      to.logits = g_logits;
      if (want.extras) to.extras = g_extras;
      if (want.weight) to.weight = g_weight;
    }
    return {to.logits, Tensor(), Tensor(), Tensor(), to.extras, to.weight, Tensor(), Tensor()};
  }
};

Terms composite(OOD_ROW_ARGS) { return with_computing_types(OOD_ROW_CALL, row_terms_composite); }

Terms below_autograd(OOD_ROW_ARGS) {
  return with_computing_types(OOD_ROW_CALL, [](const RowTermsArguments& a) -> Terms {
    auto [terms, counts, statistics] =
        forward_op().call(a.logits, a.target, a.objective, a.parameters, a.extras, a.weight,
                          a.per_row, a.ignore_index);
    return {terms, counts};
  });
}

Terms autograd(OOD_ROW_ARGS) {
  if (!fused(logits) || !fits(extras) || !fits(weight))
    return composite(logits, target, objective, parameters, extras, weight, per_row, ignore_index);
  return with_computing_types(OOD_ROW_CALL, [](const RowTermsArguments& a) -> Terms {
    const auto out = RowTermsFunction::apply(a.logits, a.target, a.objective, a.parameters,
                                             a.extras, a.weight, a.per_row, a.ignore_index);
    return {out[0], out[1]};
  });
}

}  // namespace

}  // namespace ops

std::tuple<at::Tensor, at::Tensor> row_terms(const RowTermsArguments& a) {
  return ops::row_terms_op().call(a.logits, a.target, a.objective, a.parameters, a.extras, a.weight,
                                  a.per_row, a.ignore_index);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::string row =
      "Tensor logits, Tensor target, str objective, float[] parameters, Tensor? extras=None, "
      "Tensor? weight=None, bool per_row=False, int? ignore_index=None";
  const auto def = [&](const std::string& schema) {
    m.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  };
  def("row_terms(" + row + ") -> (Tensor terms, Tensor counts)");
  def("_row_terms_forward(" + row + ") -> (Tensor, Tensor, Tensor)");
  def("_row_terms_backward(Tensor upstream, Tensor statistics, " + row +
      ", bool want_extras=False, bool want_weight=False) -> (Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(ood, CPU, m) {
  m.impl("_row_terms_forward", ops::forward_cpu);
  m.impl("_row_terms_backward", ops::backward_cpu);
  m.impl("row_terms", ops::below_autograd);
}
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("_row_terms_forward", ops::forward_meta);
  m.impl("_row_terms_backward", ops::backward_meta);
  m.impl("row_terms", ops::below_autograd);
}
TORCH_LIBRARY_IMPL(ood, Autograd, m) { m.impl("row_terms", ops::autograd); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("row_terms", ops::composite); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("row_terms", ops::composite); }

}  // namespace ood
