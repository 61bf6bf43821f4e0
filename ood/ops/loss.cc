// Schema and dispatch of loss: the terms of row_terms, reduced.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include "ood/ops/functorch.h"
#include "ood/ops/gradient_factor.h"
#include "ood/ops/row_arguments.h"
#include "ood/ops/saved_node.h"

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
  const double factor = usable(upstream) ? upstream->item<double>() : 1.0;
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

Tensor reduced(const RowTermsArguments& a, const Tensor& terms, const Tensor& counts, bool sum,
               Balance balance) {
  if (const auto combine = get_objective(a.objective).row.combine; combine != nullptr)
    return combine(a.parameters.data(), terms, counts);
  if (sum) return terms.sum(0);
  // Sums become means; without rows they are 0.
  const auto rows = balance == Balance::kWholeBatch ? counts.sum().expand({2}) : counts;
  return terms.mul(rows.clamp_min(1).to(terms.scalar_type()).reciprocal().unsqueeze(1)).sum(0);
}

// Of anything that has terms, by its own `balance`.
Losses loss_of_terms(const RowTermsArguments& given, Reduction reduction, Balance balance) {
  RowTermsArguments a = given;
  a.per_row = reduction == Reduction::kNone;
  const auto [terms, counts] = row_terms(a);
  if (a.per_row) return {terms.sum(0), {}};
  const auto means = reduced(a, terms, counts, reduction == Reduction::kSum, balance);
  return {means.sum(), means.detach()};
}

struct LossArguments {
  std::string_view objective;  // as the registry has it, which forgets none
  std::vector<double> parameters;
  bool sum, whole_batch;
  Label ignore_index;
};

// The gradient is computed with the loss and waits for its factor. That of half logits is computed
// when the factor is known: rounded before it, under the scale of a loss, it would lose digits.
struct LossBackward final : SavedNode {
  LossArguments call;
  bool computed = false;  // then the gradients are saved after the inputs

  using SavedNode::SavedNode;
  std::string name() const override { return "ood::LossBackward"; }

  ag::variable_list apply(ag::variable_list&& grads) override {
    if (!grads[0].defined()) return ag::variable_list(num_outputs());
    const bool logits_alone = num_outputs() == 1;
    const WantedGradients want{task_should_compute_output(0),
                               !logits_alone && task_should_compute_output(1),
                               !logits_alone && task_should_compute_output(2)};
    const auto kept = saved();
    const auto to = at::GradMode::is_enabled() || !computed ? compute(kept, want, grads[0])
                                                            : scaled(kept, want, grads[0]);
    if (logits_alone) return {to.logits};
    return {to.logits, to.extras, to.weight};
  }

 private:
  static RowGradients scaled(Tensors kept, const WantedGradients& want, const Tensor& upstream) {
    const GradientFactor factor(upstream);
    const auto times = [&](bool wanted_here, const Tensor& g) {
      return wanted_here ? factor.times(g) : Tensor();
    };
    return {times(want.logits, kept[4]), times(want.extras, kept[5]), times(want.weight, kept[6])};
  }

  RowGradients compute(Tensors kept, const WantedGradients& want, const Tensor& upstream) const {
    const auto optional = [](const Tensor& t) {
      return t.defined() ? OptionalTensor(t) : std::nullopt;
    };
    const Tensor &x = kept[0], &y = kept[1];
    const OptionalTensor e = optional(kept[2]), w = optional(kept[3]);
    const auto& [objective, parameters, sum, whole_batch, ignore_index] = call;
    if (at::GradMode::is_enabled())
      return row_gradients_with_graph(
          {x, y, e, w, objective, parameters, false, ignore_index}, want, upstream,
          [&](const RowTermsArguments& a) {
            const auto [terms, counts] = row_terms_composite(a);
            return reduced(a, terms, counts, sum, balance_of(whole_batch)).sum();
          });
    const auto parts =
        parts_op().call(x, y, objective, parameters, e, w, sum, whole_batch, ignore_index,
                        want.logits, want.extras, want.weight, upstream);
    return {want.logits ? std::get<2>(parts) : Tensor(),
            want.extras ? std::get<3>(parts) : Tensor(),
            want.weight ? std::get<4>(parts) : Tensor()};
  }
};

bool needs_gradient(const Tensor& t) { return t.defined() && t.requires_grad(); }

Losses fused_loss(const RowTermsArguments& given, bool sum, bool whole_batch) {
  return with_computing_types(given, [&](const RowTermsArguments& a) -> Losses {
    const Tensor e = usable(a.extras) ? *a.extras : Tensor(),
                 w = usable(a.weight) ? *a.weight : Tensor();
    const bool any = at::GradMode::is_enabled() &&
                     (a.logits.requires_grad() || needs_gradient(e) || needs_gradient(w));
    const bool now = any && !at::isReducedFloatingType(a.logits.scalar_type());
    const WantedGradients want{now, now && needs_gradient(e), now && needs_gradient(w)};
    const auto [loss, terms, to_logits, to_extras, to_weight] = [&]() -> LossParts {
      at::AutoDispatchBelowADInplaceOrView guard;
      // The dispatcher and tensors for what is not wanted take a tenth of a small batch's time.
      if (only_cpu_kernels_see({&a.logits, &a.target, &e, &w}))
        return row_loss_cpu(a, sum, balance_of(whole_batch), want);
      const auto [loss, terms, logits, extras, weight] = parts_op().call(
          a.logits, a.target, a.objective, a.parameters, a.extras, a.weight, sum, whole_batch,
          a.ignore_index, want.logits, want.extras, want.weight, std::nullopt);
      return {loss, terms, logits, extras, weight};
    }();
    if (any) {
      const auto node = c10::make_intrusive<LossBackward>(
          e.defined() || w.defined() ? ag::collect_next_edges(a.logits, e, w)
                                     : ag::collect_next_edges(a.logits));
      node->call = {a.objective, a.parameters.vec(), sum, whole_batch, a.ignore_index};
      node->computed = now;
      node->save({a.logits, a.target, e, w});
      if (now)
        node->save(
            {to_logits, want.extras ? to_extras : Tensor(), want.weight ? to_weight : Tensor()});
      ag::set_history(loss, node);
    }
    return {loss, terms};
  });
}

Losses compute(const RowTermsArguments& a, Reduction reduction, Balance balance,
               bool may_fuse = true) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  const Balance mean = balance == Balance::kDefault ? entry.balance : balance;
  TORCH_CHECK_VALUE(entry.row.combine == nullptr ||
                        (reduction == Reduction::kMean && balance != Balance::kWholeBatch),
                    entry.name, ": is a function of the whole batch; expected reduction mean and ",
                    "balance default or per_population, got ", name(reduction), " and ",
                    name(balance));
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
  if (reduction == Reduction::kNone || !may_fuse || !fused(a.logits) || !fits(a.extras) ||
      !fits(a.weight))
    return loss_of_terms(a, reduction, mean);
  return fused_loss(a, reduction == Reduction::kSum, mean == Balance::kWholeBatch);
}

template <bool kMayFuse>
Tensor loss_any(OOD_LOSS_ARGS) {
  constexpr bool per_row = false;
  return compute(OOD_ROW_CALL, parse_reduction(reduction, objective),
                 parse_balance(balance, objective), kMayFuse)
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
  m.impl("loss", ops::loss_any<true>);
}
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("_loss_parts", ops::parts_meta);
  m.impl("loss", ops::loss_any<true>);
}
TORCH_LIBRARY_IMPL(ood, Autograd, m) { m.impl("loss", ops::loss_any<true>); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("loss", ops::loss_any<false>); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("loss", ops::loss_any<false>); }

}  // namespace ood
