#include "ood/ops/objective_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "ood/ops/direct_loss.h"
#include "ood/ops/row_terms.h"

namespace ood {
namespace {

using at::Tensor;

// An input may hold NaN in a row that takes no part; logits are never read there.
std::vector<Tensor> without_ignored(const SliceEntry& slice, Tensors given, std::int64_t label) {
  auto in = given.vec();
  const auto keep = in[slice.inputs.size()].ne(label);
  for (std::size_t i = 1; i < slice.inputs.size(); ++i) {
    auto mask = keep.unsqueeze(keep.dim());
    if (in[i].dim() == keep.dim())
      mask = keep;
    else if (in[i].dim() > 2)
      mask = mask.movedim(-1, 1);
    in[i] = at::where(mask, in[i], at::zeros_like(in[i]));
  }
  return in;
}

// A function of the batch must not see rows that take no part.
Losses without_rows(const ObjectiveEntry& entry, Numbers parameters, Tensors given,
                    const ReductionOptions& o) {
  const std::size_t label = entry.slice.inputs.size();
  const auto kept = given[label].ne(*o.ignore_index).nonzero().squeeze(1);
  const auto rows = given[label].size(0);
  auto in = given.vec();
  for (std::size_t i = 0; i <= label; ++i) in[i] = in[i].index_select(0, kept);
  auto rest = o;
  rest.ignore_index = std::nullopt;
  if (o.weight) rest.weight = o.weight->index_select(0, kept);
  auto losses = objective_loss(entry, parameters, in, rest);
  // Where outliers are drawn, the losses are not those of the rows that were given.
  if (o.reduction == Reduction::kNone && !entry.slice.outliers_through_head)
    losses.loss = at::zeros({rows}, losses.loss.options()).index_copy(0, kept, losses.loss);
  return losses;
}

void check_inputs(const ObjectiveEntry& entry, std::size_t inputs) {
  const std::size_t wanted = entry.slice.inputs.size() + 1;
  TORCH_CHECK_VALUE(inputs >= wanted, entry.name, ": expected ", wanted - 1,
                    wanted == 2 ? " input" : " inputs", " and a target, got ", inputs,
                    inputs == 1 ? " tensor" : " tensors");
}

}  // namespace

void check_counts(const ObjectiveEntry& entry, Numbers parameters, std::size_t inputs,
                  std::size_t state) {
  check_parameters(entry.name, entry.parameters, parameters);
  check_inputs(entry, inputs);
  TORCH_CHECK_VALUE(state == entry.state(false).size() || state == entry.state(true).size(),
                    entry.name, ": expected its state of ", entry.state(false).size(),
                    " tensors, got ", state);
}

Losses objective_loss(const ObjectiveEntry& entry, Numbers parameters, Tensors given,
                      const ReductionOptions& o) {
  const SliceEntry& slice = entry.slice;
  const std::size_t of_loss = entry.loss_state();
  check_parameters(entry.name, entry.parameters, parameters);
  check_inputs(entry, given.size());
  TORCH_CHECK_VALUE(given.size() > slice.inputs.size() + of_loss, entry.name, ": expected ",
                    slice.inputs.size(), " inputs, a target and ", of_loss,
                    " tensors of its state, got ", given.size());
  TORCH_CHECK_VALUE(!o.weight || !slice.outliers_through_head, entry.name,
                    ": takes no weights of rows");
  const std::size_t label = slice.inputs.size();
  TORCH_CHECK_VALUE(!o.weight || o.weight->sym_sizes() == given[label].sym_sizes(), entry.name,
                    ": expected weight of the target's shape ", given[label].sym_sizes(), ", got ",
                    o.weight->sym_sizes());
  TORCH_CHECK_VALUE(entry.per_row || o.reduction == Reduction::kMean, entry.name,
                    ": is a function of the whole batch; expected reduction mean, got ",
                    name(o.reduction));
  TORCH_CHECK_VALUE(slice.composite == nullptr || o.balance != Balance::kPerPopulation ||
                        entry.balance == o.balance,
                    entry.name, ": has one mean over all rows; expected balance default or ",
                    "whole_batch, got ", name(o.balance));
  if (o.ignore_index && slice.composite != nullptr && given[label].dim() == 1)
    return without_rows(entry, parameters, given, o);
  auto in = o.ignore_index ? without_ignored(slice, given, *o.ignore_index) : given.vec();
  if (slice.prepare != nullptr) in = slice.prepare(parameters, in);
  if (slice.composite == nullptr) {
    const auto extras = in.size() > 2 ? std::optional(in[2]) : std::nullopt;
    return loss_and_terms(
        {in[0], in[1], extras, o.weight, entry.name, parameters, false, o.ignore_index},
        o.reduction, o.balance);
  }
  ops::TermOptions options;
  options.who = entry.name;
  options.whole_batch = o.balance == Balance::kWholeBatch && entry.balance != o.balance;
  if (o.weight) options.weight = o.weight->to(ops::computing_type(in[0]));
  if (o.ignore_index) {
    auto& target = in[slice.prepare != nullptr ? 1 : slice.inputs.size()];
    options.keep = target.ne(*o.ignore_index);
    target = at::where(options.keep, target, at::zeros_like(target));
  }
  return ops::direct_loss(entry.name, in, parameters, o.reduction, options);
}

Tensor objective_draw(const ObjectiveEntry& entry, Numbers parameters, Tensors inputs,
                      const Event& event) {
  if (entry.slice.draw == nullptr) return {};
  const at::NoGradGuard no_grad;
  return entry.slice.draw(parameters, inputs, event);
}

void objective_update(const ObjectiveEntry& entry, Numbers parameters, Tensors inputs,
                      Tensors state, const Event& event) {
  if (entry.slice.update == nullptr) return;
  if (event.kind == Event::kStep)
    check_inputs(entry, inputs.size());
  else
    TORCH_CHECK_VALUE(event.pass, entry.name,
                      ": expected a pass over the training data for an event that is no step");
  const at::NoGradGuard no_grad;
  entry.slice.update(parameters, inputs, state, event);
}

std::vector<Tensor> objective_start(const ObjectiveEntry& entry, Numbers parameters,
                                    const Sizes& sizes, bool training) {
  check_parameters(entry.name, entry.parameters, parameters);
  if (entry.slice.start == nullptr) return {};
  const at::NoGradGuard no_grad;
  auto all = entry.slice.start(parameters, sizes);
  TORCH_CHECK(all.size() == entry.slice.state.size(), entry.name, ": start() gives ", all.size(),
              " tensors for ", entry.slice.state.size(), " declared ones");
  all.resize(entry.state(training).size());  // those of a training alone come last
  return all;
}

namespace {

std::tuple<Tensor, Tensor> loss_op(std::string_view objective, Numbers parameters, Tensors inputs,
                                   std::string_view reduction, std::string_view balance,
                                   std::optional<std::int64_t> ignore_index,
                                   const std::optional<Tensor>& weight) {
  const auto losses = objective_loss(get_objective(objective), parameters, inputs,
                                     {parse_reduction(reduction, objective),
                                      parse_balance(balance, objective), ignore_index, weight});
  return {losses.loss,
          losses.terms.defined() ? losses.terms : at::empty({0}, losses.loss.options())};
}

Tensor distances_op(std::string_view objective, Numbers parameters, const Tensor& embedding,
                    Tensors state) {
  const ObjectiveEntry& entry = get_objective(objective);
  TORCH_CHECK_VALUE(entry.slice.distances != nullptr, objective, ": has no distances");
  check_counts(entry, parameters, entry.slice.inputs.size() + 1, state.size());
  return entry.slice.distances(parameters, embedding, state);
}

Tensor draw_op(std::string_view objective, Numbers parameters, Tensors inputs) {
  Event event;
  event.epochs = 0;  // of no training: from the first step on
  const ObjectiveEntry& entry = get_objective(objective);
  const std::size_t width = entry.slice.inputs.size() + 1;
  check_counts(entry, parameters, std::min(inputs.size(), width),
               inputs.size() - std::min(inputs.size(), width));
  const auto drawn = objective_draw(entry, parameters, inputs, event);
  return drawn.defined() ? drawn : at::empty({0}, inputs[0].options());
}

void update_op(std::string_view objective, Numbers parameters, Tensors inputs, Tensors state,
               std::string_view event_name) {
  const ObjectiveEntry& entry = get_objective(objective);
  constexpr std::string_view kNames[] = {"begin", "step", "epoch", "finish"};
  const auto* name = std::find(std::begin(kNames), std::end(kNames), event_name);
  TORCH_CHECK_VALUE(name != std::end(kNames), objective,
                    ": expected an event begin, step, epoch or finish, got ", event_name);
  Event event;
  event.kind = static_cast<Event::Kind>(name - std::begin(kNames));
  const std::size_t width = entry.slice.inputs.size() + 1;
  check_counts(entry, parameters, event.kind == Event::kStep ? inputs.size() : width, state.size());
  TORCH_CHECK_VALUE(inputs.size() % width == 0, objective, ": expected ", width,
                    " tensors a batch, got ", inputs.size(), " in all");
  if (event.kind == Event::kStep) {
    objective_update(entry, parameters, inputs, state, event);
    return;
  }
  event.pass = [&](const auto& visit) {
    for (std::size_t i = 0; i + width <= inputs.size(); i += width) visit(inputs.slice(i, width));
  };
  objective_update(entry, parameters, {}, state, event);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "objective_loss(str objective, float[] parameters, Tensor[] inputs, str reduction='mean', "
      "str balance='default', int? ignore_index=None, Tensor? weight=None) -> (Tensor loss, Tensor "
      "terms)",
      loss_op, {at::Tag::pt2_compliant_tag});
  m.def("objectives_json() -> str", [] { return objectives_json(); });
  m.def("objective_draw(str objective, float[] parameters, Tensor[] inputs) -> Tensor", draw_op,
        {at::Tag::nondeterministic_seeded});
  // For an event with a pass `inputs` holds the inputs and the target of one batch after another.
  m.def(
      "objective_update_(str objective, float[] parameters, Tensor[] inputs, Tensor(a!)[] state, "
      "str event='step') -> ()",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "objective_start(str objective, float[] parameters, int classes, int dimension) -> Tensor[]",
      [](std::string_view objective, Numbers parameters, std::int64_t classes,
         std::int64_t dimension) {
        return objective_start(get_objective(objective), parameters, {classes, dimension}, false);
      },
      {at::Tag::nondeterministic_seeded});
  m.def(
      "objective_distances(str objective, float[] parameters, Tensor embedding, Tensor[] state) -> "
      "Tensor",
      distances_op, {at::Tag::pt2_compliant_tag});
}
// The decomposition of an op with a list of tensors is not found by itself.
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) {
  m.impl("objective_loss", loss_op);
  m.impl("objective_distances", distances_op);
}
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("objective_update_", update_op); }
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("objective_update_", [](std::string_view, Numbers, Tensors, Tensors, std::string_view) {});
}

}  // namespace ood
