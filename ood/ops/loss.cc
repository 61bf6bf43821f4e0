// Schema and dispatch of loss: the terms of row_terms, reduced.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>
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
#define OOD_PARTS_ARGS                                                                     \
  [[maybe_unused]] const Tensor &logits, [[maybe_unused]] const Tensor &target,            \
      [[maybe_unused]] std::string_view objective, [[maybe_unused]] Parameters parameters, \
      [[maybe_unused]] const OptionalTensor &extras,                                       \
      [[maybe_unused]] const OptionalTensor &weight, [[maybe_unused]] bool sum,            \
      [[maybe_unused]] bool whole_batch, [[maybe_unused]] Label ignore_index

using Parts = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Balance balance_of(bool whole_batch) {
  return whole_batch ? Balance::kWholeBatch : Balance::kPerPopulation;
}

Parts parts_cpu(OOD_PARTS_ARGS, bool want_logits, bool want_extras, bool want_weight,
                const OptionalTensor& upstream) {
  constexpr bool per_row = false;
  const double factor = !usable(upstream) ? 1.0
                        : upstream->scalar_type() == at::kDouble
                            ? *upstream->const_data_ptr<double>()
                            : static_cast<double>(*upstream->const_data_ptr<float>());
  const auto p = row_loss_cpu(OOD_ROW_CALL, sum, balance_of(whole_batch),
                              {want_logits, want_extras, want_weight}, factor);
  return {p.loss, p.terms, or_empty(p.logits, logits), or_empty(p.extras, p.loss),
          or_empty(p.weight, p.loss)};
}

Parts parts_meta(OOD_PARTS_ARGS, bool want_logits, bool want_extras, bool want_weight,
                 const OptionalTensor&) {
  const ObjectiveEntry& entry = get_objective(objective);
  check_inputs(entry, logits, target, extras, weight);
  const auto options = logits.options().dtype(computing_type(logits));
  const auto like = [&](bool want, const OptionalTensor& t) {
    return want && usable(t) ? at::empty_symint(t->sym_sizes(), options) : at::empty({0}, options);
  };
  const bool any = want_logits || want_extras || want_weight;
  return {at::empty({}, options),
          at::empty({static_cast<std::int64_t>(entry.terms.size())}, options),
          any ? empty_like_layout(logits) : at::empty({0}, logits.options()),
          like(want_extras, extras), like(want_weight, weight)};
}

auto& parts_op() {
  static auto op =
      find_op<Parts(OOD_PARTS_ARGS, bool, bool, bool, const OptionalTensor&)>("ood::_loss_parts");
  return op;
}

auto& loss_op() {
  static auto op = find_op<Tensor(OOD_LOSS_ARGS)>("ood::loss");
  return op;
}

Balance mean_of(const ObjectiveEntry& entry, Balance balance) {
  return balance == Balance::kDefault ? entry.balance : balance;
}

Tensor reduced(const Tensor& terms, const Tensor& counts, bool sum, Balance balance) {
  if (sum) return terms.sum(0);
  return terms
      .mul(
          mean_weights(counts, terms.size(1), balance == Balance::kWholeBatch, terms.scalar_type()))
      .sum(0);
}

// Of anything that has terms.
Losses loss_of_terms(const RowTermsArguments& given, Reduction reduction, Balance balance) {
  const ObjectiveEntry& entry = get_objective(given.objective);
  RowTermsArguments a = given;
  a.per_row = reduction == Reduction::kNone;
  const auto [terms, counts] = row_terms(a);
  if (entry.row.combine != nullptr) {
    TORCH_CHECK_VALUE(reduction == Reduction::kMean, entry.name,
                      ": is a function of the whole batch; expected reduction mean, got ",
                      name(reduction));
    const auto combined = entry.row.combine(a.parameters.data(), terms, counts);
    return {combined.sum(), combined.detach()};
  }
  if (a.per_row) return {terms.sum(0), {}};
  const auto means = reduced(terms, counts, reduction == Reduction::kSum, mean_of(entry, balance));
  return {means.sum(), means.detach()};
}

// The gradient is computed with the loss and waits for its factor. That of half logits is computed
// when the factor is known: rounded before it, under the scale of a loss, it would lose digits.
struct LossFunction : ag::Function<LossFunction> {
  static ag::variable_list forward(ag::AutogradContext* ctx, OOD_PARTS_ARGS, bool want_extras,
                                   bool want_weight) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const bool now = !at::isReducedFloatingType(logits.scalar_type());
    const auto [loss, terms, to_logits, to_extras, to_weight] =
        parts_op().call(logits, target, objective, parameters, extras, weight, sum, whole_batch,
                        ignore_index, now, now && want_extras, now && want_weight, std::nullopt);
    ag::variable_list saved{logits, target, usable(extras) ? *extras : Tensor(),
                            usable(weight) ? *weight : Tensor()};
    if (now) saved.insert(saved.end(), {to_logits, to_extras, to_weight});
    ctx->save_for_backward(std::move(saved));
    auto& data = ctx->saved_data;
    data["objective"] = std::string(objective);
    data["parameters"] = parameters.vec();
    data["sum"] = sum;
    data["whole_batch"] = whole_batch;
    data["ignore_index"] = ignore_index;
    ctx->mark_non_differentiable({terms});
    return {loss, terms};
  }

  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &target = saved[1], &upstream = grads[0];
    const OptionalTensor extras = saved[2].defined() ? OptionalTensor(saved[2]) : std::nullopt;
    const OptionalTensor weight = saved[3].defined() ? OptionalTensor(saved[3]) : std::nullopt;
    const auto want = wanted(ctx, extras, weight);
    RowGradients to;
    if (!at::GradMode::is_enabled() && saved.size() > 4) {
      const GradientFactor factor(upstream);
      const auto scaled = [&](bool wanted_here, const Tensor& g) {
        return wanted_here ? factor.times(g) : Tensor();
      };
      to = {scaled(want.logits, saved[4]), scaled(want.extras, saved[5]),
            scaled(want.weight, saved[6])};
    } else {
      auto& data = ctx->saved_data;
      const auto objective = data["objective"].toStringRef();
      const auto parameters = data["parameters"].toDoubleVector();
      const auto ignore_index = data["ignore_index"].toOptional<std::int64_t>();
      const bool sum = data["sum"].toBool(), whole_batch = data["whole_batch"].toBool();
      if (at::GradMode::is_enabled()) {
        constexpr bool per_row = false;
        to =
            row_gradients_with_graph(OOD_ROW_CALL, want, upstream, [&](const RowTermsArguments& a) {
              const auto [terms, counts] = row_terms_composite(a);
              return reduced(terms, counts, sum, balance_of(whole_batch)).sum();
            });
      } else {
        const auto parts =
            parts_op().call(logits, target, objective, parameters, extras, weight, sum, whole_batch,
                            ignore_index, want.logits, want.extras, want.weight, upstream);
        if (want.logits) to.logits = std::get<2>(parts);
        if (want.extras) to.extras = std::get<3>(parts);
        if (want.weight) to.weight = std::get<4>(parts);
      }
    }
    return {to.logits, Tensor(), Tensor(), Tensor(), to.extras, to.weight,
            Tensor(),  Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

bool needs_gradient(const OptionalTensor& t) { return usable(t) && t->requires_grad(); }

Losses fused_loss(const RowTermsArguments& given, bool sum, bool whole_batch) {
  return with_computing_types(
      given.logits, given.target, given.objective, given.parameters, given.extras, given.weight,
      false, given.ignore_index, [&](OOD_ROW_ARGS) -> Losses {
        const bool any =
            at::GradMode::is_enabled() &&
            (logits.requires_grad() || needs_gradient(extras) || needs_gradient(weight));
        if (any) {
          const auto out = LossFunction::apply(logits, target, objective, parameters, extras,
                                               weight, sum, whole_batch, ignore_index,
                                               needs_gradient(extras), needs_gradient(weight));
          return {out[0], out[1]};
        }
        at::AutoDispatchBelowADInplaceOrView guard;
        const auto out =
            parts_op().call(logits, target, objective, parameters, extras, weight, sum, whole_batch,
                            ignore_index, false, false, false, std::nullopt);
        return {std::get<0>(out), std::get<1>(out)};
      });
}

Losses compute(const RowTermsArguments& a, Reduction reduction, Balance balance,
               bool may_fuse = true) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  const Balance mean = mean_of(entry, balance);
  // Its formula sees outliers as one more class, so the populations are weighted here.
  if (entry.ood_is_last_class && mean == Balance::kPerPopulation && reduction == Reduction::kMean) {
    const auto known = a.target.ge(0), other = a.target.lt(0);
    const auto type = computing_type(a.logits);
    const auto share = [&](Tensor rows) {
      if (a.ignore_index.has_value()) rows = rows.logical_and(a.target.ne(*a.ignore_index));
      return rows.sum().clamp_min(1).to(type).reciprocal();
    };
    OptionalTensor weight = at::where(known, share(known), share(other));
    if (usable(a.weight)) weight = *weight * *a.weight;
    return compute(
        {a.logits, a.target, a.extras, weight, a.objective, a.parameters, false, a.ignore_index},
        Reduction::kSum, mean, may_fuse);
  }
  if (reduction == Reduction::kNone || entry.row.combine != nullptr || !may_fuse ||
      !fused(a.logits))
    return loss_of_terms(a, reduction, mean);
  return fused_loss(a, reduction == Reduction::kSum, mean == Balance::kWholeBatch);
}

Tensor loss_any(OOD_LOSS_ARGS) {
  constexpr bool per_row = false;
  return compute(OOD_ROW_CALL, parse_reduction(reduction, objective),
                 parse_balance(balance, objective))
      .loss;
}

Tensor loss_composite(OOD_LOSS_ARGS) {
  constexpr bool per_row = false;
  return compute(OOD_ROW_CALL, parse_reduction(reduction, objective),
                 parse_balance(balance, objective), /*may_fuse=*/false)
      .loss;
}

}  // namespace
}  // namespace ops

Losses loss_and_terms(const RowTermsArguments& a, Reduction reduction, Balance balance) {
  return ops::compute(a, reduction, balance);
}

at::Tensor loss(const at::Tensor& logits, const at::Tensor& target, std::string_view objective,
                c10::ArrayRef<double> parameters, const std::optional<at::Tensor>& extras,
                const std::optional<at::Tensor>& weight, std::string_view reduction,
                std::string_view balance, std::optional<std::int64_t> ignore_index) {
  return ops::loss_op().call(logits, target, objective, parameters, extras, weight, reduction,
                             balance, ignore_index);
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
      "bool sum=False, bool whole_batch=False, int? ignore_index=None, bool want_logits=False, "
      "bool want_extras=False, bool want_weight=False, Tensor? upstream=None) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(ood, CPU, m) {
  m.impl("_loss_parts", ops::parts_cpu);
  m.impl("loss", ops::loss_any);
}
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("_loss_parts", ops::parts_meta);
  m.impl("loss", ops::loss_any);
}
TORCH_LIBRARY_IMPL(ood, Autograd, m) { m.impl("loss", ops::loss_any); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("loss", ops::loss_composite); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("loss", ops::loss_composite); }

}  // namespace ood
