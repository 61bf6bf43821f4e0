#include "ood/ops/direct_loss.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <map>
#include <numeric>

#include "ood/ops/by_type.h"
#include "ood/ops/functorch.h"
#include "ood/ops/gradient_factor.h"
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

struct DirectLossFunction : ag::Function<DirectLossFunction> {
  static ag::variable_list forward(ag::AutogradContext* ctx, at::TensorList inputs,
                                   std::string_view name, Numbers numbers, bool sum,
                                   std::int64_t wanted) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto parts = parts_op().call(name, inputs, numbers, sum, wanted);
    ag::variable_list saved(inputs.begin(), inputs.end());
    saved.insert(saved.end(), parts.begin() + 2, parts.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["name"] = std::string(name);
    ctx->saved_data["numbers"] = numbers.vec();
    ctx->saved_data["sum"] = sum;
    ctx->saved_data["wanted"] = wanted;
    ctx->mark_non_differentiable({parts[1]});
    return {parts[0], parts[1]};
  }

  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const std::size_t count = saved.size() / 2;
    const auto wanted = ctx->saved_data["wanted"].toInt();
    ag::variable_list to(count);
    if (!at::GradMode::is_enabled()) {
      const GradientFactor factor(grads[0]);
      for (std::size_t i = 0; i < count; ++i)
        if (wants(wanted, i)) to[i] = factor.times(saved[count + i]);
    } else {
      to = gradients_with_graph(
          [&](const std::vector<Tensor>& inputs) {
            const DirectLoss loss = find(ctx->saved_data["name"].toStringRef());
            return add_up_terms(
                       loss.composite(ctx->saved_data["numbers"].toDoubleVector(), inputs),
                       loss.terms,
                       ctx->saved_data["sum"].toBool() ? Reduction::kSum : Reduction::kMean)
                .loss;
          },
          Tensors(saved).slice(0, count), wanted, grads[0]);
    }
    to.resize(count + 4);
    return to;
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
  if (wanted != 0) {
    const auto out = DirectLossFunction::apply(inputs, loss.name, numbers, sum, wanted);
    return {out[0], out[1]};
  }
  at::AutoDispatchBelowADInplaceOrView guard;
  const auto out = parts_op().call(loss.name, inputs, numbers, sum, wanted);
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
