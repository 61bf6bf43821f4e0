#include "ood/objectives/mchad.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <numeric>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_FORMULA(Mchad);

namespace {

using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kDistances, kTarget };                            // of the inputs
constexpr std::size_t kSum = Mchad::kParameters.size();  // of the numbers: after the parameters

at::Tensor composite(Inputs in, Numbers numbers) {
  const auto parameters = numbers.slice(0, kSum);
  const auto reach = with_parameters<Mchad>(parameters.data()).reach();
  return loss(in[kDistances].neg(), in[kTarget], Mchad::kName, parameters,
              (reach * reach - in[kDistances]).relu().sum(1).unsqueeze(0), std::nullopt,
              reduction_name(numbers[kSum]), "default", std::nullopt);
}

// The formula with a hinge of 0, and the hinge of OOD rows:  dL/dd = -dL/dx,  -w_o where d <
// reach^2.
std::vector<at::Tensor> parts(Inputs in, Numbers numbers, std::int64_t wanted) {
  const auto distances = in[kDistances].contiguous(), target = in[kTarget].contiguous();
  const auto parameters = numbers.slice(0, kSum);
  const auto formula = with_parameters<Mchad>(parameters.data());
  const bool want = ops::wants(wanted, kDistances), sum = numbers[kSum] != 0;
  const auto n = distances.size(0), classes = distances.size(1);
  const std::optional<at::Tensor> no_hinge = at::zeros({1, n}, distances.options()), none;
  auto row = ops::row_loss_cpu(
      {distances.neg(), target, no_hinge, none, Mchad::kName, parameters, false, std::nullopt},
      sum ? ops::Reduction::kSum : ops::Reduction::kMeanPerPopulation, {want, false, false});
  const auto* y = target.const_data_ptr<std::int64_t>();
  const auto others = std::count_if(y, y + n, [](std::int64_t label) { return label < 0; });
  const double scale = formula.weight_oe * ops::mean_factor(sum, others);
  std::vector<double> hinges(static_cast<std::size_t>(n), 0.0);
  ops::by_type(distances, "mchad_loss", [&](auto zero) {
    using F = decltype(zero);
    const F reach = static_cast<F>(formula.reach() * formula.reach());
    const F slope = static_cast<F>(-scale);
    const F* d = distances.const_data_ptr<F>();
    F* g = want ? row.logits.template mutable_data_ptr<F>() : nullptr;
    at::parallel_for(0, n, 32, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) {
        const F* from = d + i * classes;
        F* to = want ? g + i * classes : nullptr;
        if (y[i] >= 0) {
          for (std::int64_t j = 0; want && j < classes; ++j) to[j] = -to[j];
          continue;
        }
        double hinge = 0;
        for (std::int64_t j = 0; j < classes; ++j) hinge += std::max(reach - from[j], F{0});
        for (std::int64_t j = 0; want && j < classes; ++j) to[j] = from[j] >= reach ? F{0} : slope;
        hinges[static_cast<std::size_t>(i)] = hinge;
      }
    });
    *row.loss.template mutable_data_ptr<F>() +=
        static_cast<F>(scale * std::accumulate(hinges.begin(), hinges.end(), 0.0));
  });
  return {row.loss, row.logits, at::Tensor()};
}

constexpr ops::DirectLoss kDirect{"mchad_loss", 2, 6, composite, parts};
[[maybe_unused]] const bool registered = ops::register_direct_loss(kDirect);

}  // namespace

at::Tensor mchad_loss(const at::Tensor& distances, const at::Tensor& target,
                      c10::ArrayRef<double> parameters, std::string_view reduction) {
  TORCH_CHECK_VALUE(
      distances.dim() == 2 && target.dim() == 1 && target.sym_size(0) == distances.sym_size(0),
      "mchad: expected distances [N, K] and target [N], got ", distances.sym_sizes(), " and ",
      target.sym_sizes());
  check_parameters(get_objective(Mchad::kName), parameters.data(), parameters.size());
  auto numbers = parameters.vec();
  numbers.push_back(reduction_is_sum(reduction));
  return ops::direct_loss(
      kDirect, {ops::widened(distances), ops::class_labels(target, Mchad::kName)}, numbers);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "mchad_loss(Tensor distances, Tensor target, float[] parameters, str reduction='mean') -> "
      "Tensor",
      mchad_loss, {at::Tag::pt2_compliant_tag});
}

}  // namespace ood
