#include "ood/ops/direct_loss.h"

#include <ATen/core/grad_mode.h>
#include <torch/library.h>

#include <map>
#include <numeric>

#include "ood/ops/by_type.h"
#include "ood/ops/functorch.h"
#include "ood/ops/gradient_factor.h"
#include "ood/ops/saved_node.h"
#include "ood/registry/registry.h"

namespace ood::ops {
namespace {

namespace ag = torch::autograd;
using at::Tensor;

std::map<std::string_view, const DirectLoss*>& further_losses() {
  static std::map<std::string_view, const DirectLoss*> all;
  return all;
}

DirectLoss find(std::string_view name) {
  if (const auto found = further_losses().find(name); found != further_losses().end())
    return *found->second;
  const ObjectiveEntry* entry = find_objective(name);
  TORCH_CHECK_VALUE(entry != nullptr && entry->slice.composite != nullptr,
                    "_direct_loss: no loss of the name ", name);
  const SliceEntry& slice = entry->slice;
  const std::size_t target = slice.prepare != nullptr ? 1 : slice.inputs.size();
  const std::size_t inputs = slice.prepare != nullptr ? 2 : target + 1 + entry->loss_state();
  return {entry->name,         inputs,          target,     entry->parameters.size(),
          entry->terms.size(), slice.composite, slice.parts};
}

// The loss, the terms, and a gradient for every input, empty where none is wanted.
std::vector<Tensor> parts_cpu(std::string_view name, Tensors inputs, Numbers numbers, bool sum,
                              std::int64_t wanted) {
  const DirectLoss loss = find(name);
  TORCH_CHECK_VALUE(inputs.size() >= loss.inputs && numbers.size() >= loss.numbers, name,
                    ": expected at least ", loss.inputs, " inputs and ", loss.numbers,
                    " numbers, got ", inputs.size(), " and ", numbers.size());
  TORCH_CHECK_VALUE(loss.parts != nullptr, name, ": expected a loss with a gradient of its own");
  Parts parts = loss.parts(numbers, inputs, sum, wanted);
  std::vector<Tensor> out(2);
  by_type(inputs[0], "_direct_loss", [&](auto zero) {
    using F = decltype(zero);
    out[0] = scalar<F>(std::accumulate(parts.terms.begin(), parts.terms.end(), 0.0), inputs[0]);
    out[1] = at::empty({static_cast<std::int64_t>(parts.terms.size())}, inputs[0].options());
    std::copy(parts.terms.begin(), parts.terms.end(), out[1].template mutable_data_ptr<F>());
  });
  parts.gradients.resize(inputs.size());
  for (Tensor& t : parts.gradients)
    out.push_back(t.defined() ? t : at::empty({0}, inputs[0].options()));
  return out;
}

std::vector<Tensor> parts_meta(std::string_view name, Tensors inputs, Numbers, bool,
                               std::int64_t wanted) {
  const auto options = inputs[0].options();
  std::vector<Tensor> out{at::empty({}, options),
                          at::empty({static_cast<std::int64_t>(find(name).terms)}, options)};
  for (std::size_t i = 0; i < inputs.size(); ++i)
    out.push_back(wants(wanted, i) ? at::empty_symint(inputs[i].sym_sizes(), inputs[i].options())
                                   : at::empty({0}, options));
  return out;
}

auto& parts_op() {
  static auto op =
      find_op<std::vector<Tensor>(std::string_view, Tensors, Numbers, bool, std::int64_t)>(
          "ood::_direct_loss");
  return op;
}

struct DirectLossBackward final : SavedNode {
  std::string loss;
  std::vector<double> numbers;
  bool sum = false;
  std::size_t inputs = 0;  // saved first, then their gradients

  using SavedNode::SavedNode;
  std::string name() const override { return "ood::DirectLossBackward"; }

  ag::variable_list apply(ag::variable_list&& grads) override {
    ag::variable_list to(inputs);
    if (!grads[0].defined()) return to;
    const auto kept = saved();
    if (at::GradMode::is_enabled()) return with_graph(Tensors(kept).slice(0, inputs), grads[0]);
    const GradientFactor factor(grads[0]);
    for (std::size_t i = 0; i < inputs; ++i)
      if (task_should_compute_output(i)) to[i] = factor.times(kept[inputs + i]);
    return to;
  }

 private:
  ag::variable_list with_graph(Tensors given, const Tensor& upstream) const {
    std::int64_t wanted = 0;
    for (std::size_t i = 0; i < inputs; ++i)
      if (task_should_compute_output(i)) wanted |= std::int64_t{1} << i;
    const auto output = [&](const std::vector<Tensor>& in) {
      const DirectLoss of = find(loss);
      return add_up_terms(of.composite(numbers, in), of.terms,
                          sum ? Reduction::kSum : Reduction::kMean)
          .loss;
    };
    return gradients_with_graph(output, given, wanted, upstream);
  }
};

Losses compute(const DirectLoss& loss, Tensors inputs, Numbers numbers, Reduction reduction,
               const TermOptions& options) {
  const bool plain = !options.keep.defined() && !options.weight.defined() && !options.whole_batch;
  const bool directly = plain && loss.parts != nullptr && reduction != Reduction::kNone &&
                        inputs[0].dim() == 2 &&
                        std::all_of(inputs.begin(), inputs.end(), [](auto& t) { return fused(t); });
  if (!directly)
    return add_up_terms(loss.composite(numbers, inputs), loss.terms, reduction, options);
  const bool sum = reduction == Reduction::kSum;
  std::int64_t wanted = 0;
  for (std::size_t i = 0; i < inputs.size() && at::GradMode::is_enabled(); ++i)
    if (inputs[i].requires_grad()) wanted |= std::int64_t{1} << i;
  const auto out = [&] {
    at::AutoDispatchBelowADInplaceOrView guard;
    return parts_op().call(loss.name, inputs, numbers, sum, wanted);
  }();
  if (wanted != 0) {
    const auto node = c10::make_intrusive<DirectLossBackward>(ag::collect_next_edges(inputs));
    node->loss = loss.name;
    node->numbers = numbers.vec();
    node->sum = sum;
    node->inputs = inputs.size();
    node->save(inputs);
    node->save(Tensors(out).slice(2));
    ag::set_history(out[0], node);
  }
  return {out[0], out[1]};
}

}  // namespace

Tensor class_labels(const Tensor& target, std::string_view objective) {
  TORCH_CHECK_TYPE(at::isIntegralType(target.scalar_type(), false), objective,
                   ": expected target of an integer type, got ", target.scalar_type());
  return target.to(at::kLong);
}

void check_one_number(const Tensor& t, std::string_view objective, std::string_view argument) {
  TORCH_CHECK_VALUE(t.sym_numel() == 1, objective, ": expected ", argument, " of one number, got ",
                    t.sym_sizes());
}

bool register_direct_loss(const DirectLoss& loss) {
  further_losses()[loss.name] = &loss;
  return true;
}

Losses direct_loss(const DirectLoss& loss, Tensors given, Numbers numbers, Reduction reduction,
                   const TermOptions& options) {
  auto inputs = given.vec();
  inputs[0] = widened(inputs[0]);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TORCH_CHECK_VALUE(inputs[i].device() == inputs[0].device(), loss.name,
                      ": expected all tensors on ", inputs[0].device(),
                      ", where the first is, got one on ", inputs[i].device());
    if (i == loss.target)
      inputs[i] = class_labels(inputs[i], loss.name);
    else if (inputs[i].is_floating_point())
      inputs[i] = inputs[i].to(inputs[0].scalar_type());
  }
  return compute(loss, inputs, numbers, reduction, options);
}

Losses direct_loss(std::string_view objective, Tensors prepared, Numbers parameters,
                   Reduction reduction, const TermOptions& options) {
  return direct_loss(find(objective), prepared, parameters, reduction, options);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "_direct_loss(str name, Tensor[] inputs, float[] numbers, bool sum, int wanted) -> Tensor[]",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("_direct_loss", parts_cpu); }
TORCH_LIBRARY_IMPL(ood, Meta, m) { m.impl("_direct_loss", parts_meta); }

}  // namespace ood::ops
