#include "ood/ops/direct_loss.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <map>

#include "ood/ops/functorch.h"
#include "ood/ops/gradient_factor.h"
#include "ood/ops/row_terms.h"

namespace ood::ops {
namespace {

namespace ag = torch::autograd;
using at::Tensor;
using Inputs = DirectLoss::Inputs;
using Numbers = DirectLoss::Numbers;

std::map<std::string_view, const DirectLoss*>& losses() {
  static std::map<std::string_view, const DirectLoss*> all;
  return all;
}

const DirectLoss& find(std::string_view name) {
  const auto found = losses().find(name);
  TORCH_CHECK_VALUE(found != losses().end(), "_direct_loss: no loss of the name ", name);
  return *found->second;
}

std::vector<Tensor> parts_cpu(std::string_view name, Inputs inputs, Numbers numbers,
                              std::int64_t wanted) {
  const DirectLoss& loss = find(name);
  TORCH_CHECK_VALUE(inputs.size() >= loss.inputs && numbers.size() >= loss.numbers, name,
                    ": expected at least ", loss.inputs, " inputs and ", loss.numbers,
                    " numbers, got ", inputs.size(), " and ", numbers.size());
  auto parts = loss.parts(inputs, numbers, wanted);
  for (Tensor& t : parts)
    if (!t.defined()) t = at::empty({0}, inputs[0].options());
  return parts;
}

std::vector<Tensor> parts_meta(std::string_view, Inputs inputs, Numbers, std::int64_t wanted) {
  std::vector<Tensor> parts{at::empty({}, inputs[0].options())};
  for (std::size_t i = 0; i < inputs.size(); ++i)
    parts.push_back(wants(wanted, i) ? at::empty_symint(inputs[i].sym_sizes(), inputs[i].options())
                                     : at::empty({0}, inputs[0].options()));
  return parts;
}

auto& parts_op() {
  static auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("ood::_direct_loss", "")
          .typed<std::vector<Tensor>(std::string_view, Inputs, Numbers, std::int64_t)>();
  return op;
}

struct DirectLossFunction : ag::Function<DirectLossFunction> {
  static Tensor forward(ag::AutogradContext* ctx, at::TensorList inputs, std::string_view name,
                        Numbers numbers, std::int64_t wanted) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto parts = parts_op().call(name, inputs, numbers, wanted);
    ag::variable_list saved(inputs.begin(), inputs.end());
    saved.insert(saved.end(), parts.begin() + 1, parts.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["name"] = std::string(name);
    ctx->saved_data["numbers"] = numbers.vec();
    ctx->saved_data["wanted"] = wanted;
    return parts[0];
  }

  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const std::size_t count = saved.size() / 2;
    const auto wanted = ctx->saved_data["wanted"].toInt();
    ag::variable_list to(count + 3);
    if (!at::GradMode::is_enabled()) {
      const GradientFactor factor(grads[0]);
      for (std::size_t i = 0; i < count; ++i)
        if (wants(wanted, i)) to[i] = factor.times(saved[count + i]);
      return to;
    }
    // By views: an input may have been computed from another, which is no part of this.
    ag::variable_list inputs, asked;
    for (std::size_t i = 0; i < count; ++i) {
      inputs.push_back(saved[i].view_as(saved[i]));
      if (wants(wanted, i)) asked.push_back(inputs.back());
    }
    const auto loss = find(ctx->saved_data["name"].toStringRef())
                          .composite(inputs, ctx->saved_data["numbers"].toDoubleVector());
    const auto result = ag::grad({loss}, asked, {grads[0]}, /*retain_graph=*/true,
                                 /*create_graph=*/true, /*allow_unused=*/true);
    for (std::size_t i = 0, next = 0; i < count; ++i)
      if (wants(wanted, i)) to[i] = result[next++];
    return to;
  }
};

bool computed_directly(Inputs inputs) {
  const auto type = inputs[0].scalar_type();
  if (type != at::kFloat && type != at::kDouble) return false;
  for (const Tensor& t : inputs)
    if (!fused(t) || (t.is_floating_point() && t.scalar_type() != type)) return false;
  return true;
}

}  // namespace

Tensor class_labels(const Tensor& target, std::string_view objective) {
  TORCH_CHECK_TYPE(at::isIntegralType(target.scalar_type(), false), objective,
                   ": expected target of an integer type, got ", target.scalar_type());
  return target.to(at::kLong);
}

Tensor one_number(const Tensor& t, const Tensor& like, std::string_view objective,
                  std::string_view argument) {
  TORCH_CHECK_VALUE(t.sym_numel() == 1, objective, ": expected ", argument, " of one number, got ",
                    t.sym_sizes());
  return t.to(computing_type(like));
}

bool register_direct_loss(const DirectLoss& loss) {
  losses()[loss.name] = &loss;
  return true;
}

Tensor direct_loss(const DirectLoss& loss, Inputs inputs, Numbers numbers) {
  for (const Tensor& t : inputs)
    TORCH_CHECK_VALUE(t.device() == inputs[0].device(), loss.name, ": expected all tensors on ",
                      inputs[0].device(), ", where the first is, got one on ", t.device());
  if (!computed_directly(inputs)) return loss.composite(inputs, numbers);
  std::int64_t wanted = 0;
  for (std::size_t i = 0; i < inputs.size() && at::GradMode::is_enabled(); ++i)
    if (inputs[i].requires_grad()) wanted |= std::int64_t{1} << i;
  if (wanted != 0) return DirectLossFunction::apply(inputs, loss.name, numbers, wanted);
  at::AutoDispatchBelowADInplaceOrView guard;
  return parts_op().call(loss.name, inputs, numbers, wanted)[0];
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("_direct_loss(str name, Tensor[] inputs, float[] numbers, int wanted) -> Tensor[]",
        {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("_direct_loss", parts_cpu); }
TORCH_LIBRARY_IMPL(ood, Meta, m) { m.impl("_direct_loss", parts_meta); }

}  // namespace ood::ops
