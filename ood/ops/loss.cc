// Schema and dispatch of loss: the terms of row_terms, reduced.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ood/ops/functorch.h"
#include "ood/ops/gradient_factor.h"
#include "ood/ops/row_arguments.h"

namespace ood {
namespace ops {
namespace {

namespace ag = torch::autograd;

#define OOD_LOSS_ARGS                                                                             \
  [[maybe_unused]] const Tensor &logits, [[maybe_unused]] const Tensor &target,                   \
      [[maybe_unused]] std::string_view objective, [[maybe_unused]] Parameters parameters,        \
      [[maybe_unused]] const OptionalTensor &extras,                                              \
      [[maybe_unused]] const OptionalTensor &weight, [[maybe_unused]] std::string_view reduction, \
      [[maybe_unused]] std::string_view balance, [[maybe_unused]] Label ignore_index
#define OOD_LOSS_PASS \
  logits, target, objective, parameters, extras, weight, reduction, balance, ignore_index

using Parts = std::tuple<Tensor, Tensor, Tensor, Tensor>;
#define OOD_PARTS_ARGS                                                                        \
  [[maybe_unused]] const Tensor &logits, [[maybe_unused]] const Tensor &target,               \
      [[maybe_unused]] std::string_view objective, [[maybe_unused]] Parameters parameters,    \
      [[maybe_unused]] const OptionalTensor &extras,                                          \
      [[maybe_unused]] const OptionalTensor &weight, [[maybe_unused]] std::int64_t reduction, \
      [[maybe_unused]] Label ignore_index, [[maybe_unused]] bool want_logits,                 \
      [[maybe_unused]] bool want_extras, [[maybe_unused]] bool want_weight

Parts parts_cpu(OOD_PARTS_ARGS) {
  constexpr bool per_row = false;
  const auto p = row_loss_cpu(OOD_ROW_CALL, static_cast<Reduction>(reduction),
                              {want_logits, want_extras, want_weight});
  return {p.loss, or_empty(p.logits, logits), or_empty(p.extras, p.loss),
          or_empty(p.weight, p.loss)};
}

Parts parts_meta(OOD_PARTS_ARGS) {
  check_inputs(get_objective(objective), logits, target, extras, weight);
  const auto options = logits.options().dtype(computing_type(logits));
  const auto like = [&](bool want, const OptionalTensor& t) {
    return want && usable(t) ? at::empty_symint(t->sym_sizes(), options) : at::empty({0}, options);
  };
  const bool any = want_logits || want_extras || want_weight;
  return {at::empty({}, options),
          any ? empty_like_layout(logits) : at::empty({0}, logits.options()),
          like(want_extras, extras), like(want_weight, weight)};
}

auto& parts_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::_loss_parts", "")
                       .typed<Parts(OOD_PARTS_ARGS)>();
  return op;
}

auto& loss_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::loss", "")
                       .typed<Tensor(OOD_LOSS_ARGS)>();
  return op;
}

Reduction mean_of(const ObjectiveEntry& entry, std::string_view balance) {
  if (balance == "whole_batch") return Reduction::kMeanWholeBatch;
  if (balance == "per_population") return Reduction::kMeanPerPopulation;
  TORCH_CHECK_VALUE(balance == "default", entry.name,
                    ": expected balance default, per_population or whole_batch, got ", balance);
  return entry.balance == Balance::kWholeBatch ? Reduction::kMeanWholeBatch
                                               : Reduction::kMeanPerPopulation;
}

bool wants_rows(const ObjectiveEntry& entry, std::string_view reduction) {
  TORCH_CHECK_VALUE(reduction == "none" || reduction == "mean" || reduction == "sum", entry.name,
                    ": expected reduction none, mean or sum, got ", reduction);
  return reduction == "none";
}

Tensor reduced(const Tensor& terms, const Tensor& counts, Reduction reduction) {
  if (reduction == Reduction::kSum) return terms.sum();
  return terms
      .mul(mean_weights(counts, terms.size(1), reduction == Reduction::kMeanWholeBatch,
                        terms.scalar_type()))
      .sum();
}

// Of anything that has terms.
Tensor loss_of_terms(OOD_LOSS_ARGS) {
  const ObjectiveEntry& entry = get_objective(objective);
  const Reduction mean = mean_of(entry, balance);
  const bool per_row = wants_rows(entry, reduction);
  const auto [terms, counts] = row_terms(OOD_ROW_CALL);
  if (entry.row.combine != nullptr) {
    TORCH_CHECK_VALUE(reduction == "mean", entry.name,
                      ": is a function of the whole batch; expected reduction mean, got ",
                      reduction);
    return entry.row.combine(parameters.data(), terms, counts).sum();
  }
  if (per_row) return terms.sum(0);
  return reduced(terms, counts, reduction == "sum" ? Reduction::kSum : mean);
}

// The gradient is computed with the loss and waits for its factor.
struct LossFunction : ag::Function<LossFunction> {
  static Tensor forward(ag::AutogradContext* ctx, OOD_PARTS_ARGS) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto [loss, to_logits, to_extras, to_weight] =
        parts_op().call(logits, target, objective, parameters, extras, weight, reduction,
                        ignore_index, want_logits, want_extras, want_weight);
    ctx->save_for_backward({logits, target, usable(extras) ? *extras : Tensor(),
                            usable(weight) ? *weight : Tensor(), to_logits, to_extras, to_weight});
    auto& data = ctx->saved_data;
    data["objective"] = std::string(objective);
    data["parameters"] = parameters.vec();
    data["reduction"] = reduction;
    data["ignore_index"] = ignore_index;
    return loss;
  }

  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &target = saved[1], &upstream = grads[0];
    const OptionalTensor extras = saved[2].defined() ? OptionalTensor(saved[2]) : std::nullopt;
    const OptionalTensor weight = saved[3].defined() ? OptionalTensor(saved[3]) : std::nullopt;
    const auto want = wanted(ctx, extras, weight);
    RowGradients to;
    if (at::GradMode::is_enabled()) {
      auto& data = ctx->saved_data;
      const auto objective = data["objective"].toStringRef();
      const auto parameters = data["parameters"].toDoubleVector();
      const auto ignore_index = data["ignore_index"].toOptional<std::int64_t>();
      constexpr bool per_row = false;
      const auto reduction = static_cast<Reduction>(data["reduction"].toInt());
      to = gradients_with_graph(
          [reduction](const RowTermsArguments& a) {
            const auto [terms, counts] = row_terms_composite(a);
            return reduced(terms, counts, reduction);
          },
          upstream, OOD_ROW_CALL, want);
    } else {
      const GradientFactor factor(upstream);
      const auto scaled = [&](bool wanted_here, const Tensor& g) {
        return wanted_here ? factor.times(g) : Tensor();
      };
      to = {scaled(want.logits, saved[4]), scaled(want.extras, saved[5]),
            scaled(want.weight, saved[6])};
    }
    return {to.logits, Tensor(), Tensor(), Tensor(), to.extras, to.weight,
            Tensor(),  Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

bool fusable(const ObjectiveEntry& entry, const Tensor& logits, std::string_view reduction) {
  return !wants_rows(entry, reduction) && entry.row.combine == nullptr && fused(logits);
}

template <class Call>
Tensor fused_loss(OOD_LOSS_ARGS, const Call& call) {
  const ObjectiveEntry& entry = get_objective(objective);
  const Reduction mean = mean_of(entry, balance);
  const auto how = static_cast<std::int64_t>(reduction == "sum" ? Reduction::kSum : mean);
  return with_computing_types(logits, target, objective, parameters, extras, weight, false,
                              ignore_index, [&](OOD_ROW_ARGS) -> Tensor {
                                return call(logits, target, objective, parameters, extras, weight,
                                            how, ignore_index);
                              });
}

Tensor loss_below_autograd(OOD_LOSS_ARGS) {
  if (!fusable(get_objective(objective), logits, reduction)) return loss_of_terms(OOD_LOSS_PASS);
  return fused_loss(OOD_LOSS_PASS, [](const auto&... a) {
    return std::get<0>(parts_op().call(a..., false, false, false));
  });
}

bool needs_gradient(const OptionalTensor& t) { return usable(t) && t->requires_grad(); }

Tensor loss_autograd(OOD_LOSS_ARGS) {
  if (!fusable(get_objective(objective), logits, reduction)) return loss_of_terms(OOD_LOSS_PASS);
  const bool any = at::GradMode::is_enabled() &&
                   (logits.requires_grad() || needs_gradient(extras) || needs_gradient(weight));
  if (!any) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return loss_below_autograd(OOD_LOSS_PASS);
  }
  return fused_loss(OOD_LOSS_PASS, [&](const auto&... a) {
    return LossFunction::apply(a..., true, needs_gradient(extras), needs_gradient(weight));
  });
}

}  // namespace
}  // namespace ops

at::Tensor loss(const at::Tensor& logits, const at::Tensor& target, std::string_view objective,
                c10::ArrayRef<double> parameters, const std::optional<at::Tensor>& extras,
                const std::optional<at::Tensor>& weight, std::string_view reduction,
                std::string_view balance, std::optional<std::int64_t> ignore_index) {
  return ops::loss_op().call(OOD_LOSS_PASS);
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target,
                         std::string_view reduction) {
  const double no_smoothing[] = {0};
  return loss(logits, target, "cross_entropy", no_smoothing, std::nullopt, std::nullopt, reduction,
              "default", std::nullopt);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::string row =
      "Tensor logits, Tensor target, str objective, float[] parameters, Tensor? extras=None, "
      "Tensor? weight=None, ";
  const auto def = [&](const std::string& schema) {
    m.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  };
  def("loss(" + row +
      "str reduction='mean', str balance='default', int? ignore_index=None) -> Tensor");
  def("_loss_parts(" + row +
      "int reduction=0, int? ignore_index=None, bool want_logits=False, bool want_extras=False, "
      "bool want_weight=False) -> (Tensor, Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(ood, CPU, m) {
  m.impl("_loss_parts", ops::parts_cpu);
  m.impl("loss", ops::loss_below_autograd);
}
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("_loss_parts", ops::parts_meta);
  m.impl("loss", ops::loss_below_autograd);
}
TORCH_LIBRARY_IMPL(ood, Autograd, m) { m.impl("loss", ops::loss_autograd); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("loss", ops::loss_of_terms); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("loss", ops::loss_of_terms); }

}  // namespace ood
