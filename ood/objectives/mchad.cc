#include "ood/objectives/mchad.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <numeric>

#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distances.h"
#include "ood/ops/row_terms.h"
#include "ood/ops/row_values.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(Mchad);

namespace {

enum { kDistances, kLabels };  // of the prepared inputs

void check(Tensors in) {
  const auto &d = in[kDistances], &target = in[kLabels];
  TORCH_CHECK_VALUE(d.dim() == 2 && target.dim() == 1 && target.sym_size(0) == d.sym_size(0),
                    "mchad: expected distances [N, K] and target [N], got ", d.sym_sizes(), " and ",
                    target.sym_sizes());
}

}  // namespace

std::vector<at::Tensor> Mchad::start(const Sizes& sizes) const {
  return {at::randn({sizes.classes, sizes.dimension})};
}

std::vector<at::Tensor> Mchad::prepare(Tensors in) const {
  return {distances(in[0], in.slice(2)), in[1]};
}

std::vector<Term> Mchad::composite(Tensors in) const {
  check(in);
  const auto& d = in[kDistances];
  const auto nll = cross_entropy(d.neg(), in[kLabels], "none");  // which also looks at the labels
  const auto known = in[kLabels].ge(0), other = known.logical_not();
  const auto own =
      d.gather(1, at::where(known, in[kLabels], at::zeros_like(in[kLabels])).unsqueeze(1))
          .squeeze(1);
  const auto center =
      legacy ? (own - radius).relu() / c10::Scalar(d.sym_size(1)) : (own - radius * radius).relu();
  // The authors sum over the outliers, whatever the reduction.
  const auto old = (margin * margin - d.square()).relu().sum(1);
  return {{0, weight_center * center, known},
          {1, weight_nll * nll, known},
          legacy ? Term{2, weight_oe * at::where(other, old, at::zeros_like(old)).sum(), {}}
                 : Term{2, weight_oe * (reach() * reach() - d).relu().sum(1), other}};
}

// The formula with a hinge of 0, and the hinge of OOD rows:
//
//   dL/dd = -dL/dx,   -w_o where d < reach^2;   legacy: -2 w_o d where d < m
Parts Mchad::parts(Tensors in, bool sum, std::int64_t wanted) const {
  check(in);
  const auto distances = in[kDistances].contiguous(), target = in[kLabels].contiguous();
  const bool want = ops::wants(wanted, kDistances);
  const auto n = distances.size(0), classes = distances.size(1);
  Mchad rows = *this;
  if (legacy) {
    rows.radius = std::sqrt(radius);
    rows.weight_center = weight_center / static_cast<double>(classes);
  }
  const double numbers[] = {rows.weight_center, weight_nll, weight_oe, rows.radius, margin, 0};
  const std::optional<at::Tensor> no_hinge = at::zeros({1, n}, distances.options()), none;
  auto row = ops::row_loss_cpu(
      {distances.neg(), target, no_hinge, none, kCard.name, numbers, false, std::nullopt}, sum,
      Balance::kPerPopulation, {want, false, false});
  const auto* y = target.const_data_ptr<std::int64_t>();
  const auto others = std::count_if(y, y + n, [](std::int64_t label) { return label < 0; });
  const double scale = weight_oe * ops::mean_factor(sum || legacy, others);
  std::vector<double> hinges(static_cast<std::size_t>(n), 0.0);
  Parts out{{0, 0, 0}, {row.logits, {}}};
  ops::by_type(distances, "mchad_loss", [&](auto zero) {
    using F = decltype(zero);
    const F edge = static_cast<F>(legacy ? margin * margin : reach() * reach());
    const F slope = static_cast<F>(-scale);
    const F* d = distances.const_data_ptr<F>();
    F* g = want ? row.logits.template mutable_data_ptr<F>() : nullptr;
    const auto size = [&](F distance) { return legacy ? distance * distance : distance; };
    at::parallel_for(0, n, 32, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) {
        const F* from = d + i * classes;
        F* to = want ? g + i * classes : nullptr;
        if (y[i] >= 0) {
          for (std::int64_t j = 0; want && j < classes; ++j) to[j] = -to[j];
          continue;
        }
        double hinge = 0;
        for (std::int64_t j = 0; j < classes; ++j) hinge += std::max(edge - size(from[j]), F{0});
        for (std::int64_t j = 0; want && j < classes; ++j)
          to[j] = size(from[j]) >= edge ? F{0} : legacy ? 2 * slope * from[j] : slope;
        hinges[static_cast<std::size_t>(i)] = hinge;
      }
    });
    const F* terms = row.terms.template const_data_ptr<F>();
    out.terms = {terms[0], terms[1], scale * std::accumulate(hinges.begin(), hinges.end(), 0.0)};
  });
  return out;
}

at::Tensor Mchad::distances(const at::Tensor& embedding, Tensors state) const {
  return center_distances(embedding, state[0], true);
}

void Mchad::readout(const NetworkOutput& output, Tensors state, Readout& r) const {
  const auto d = distances(output.logits, state);
  r.logits = d.neg();
  r.score = d.amin(1);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "mchad_loss(Tensor distances, Tensor target, float[] parameters, str reduction='mean') -> "
      "Tensor",
      [](const at::Tensor& distances, const at::Tensor& target, Numbers given,
         std::string_view reduction) {
        auto parameters = given.vec();
        if (parameters.size() == 5) parameters.push_back(0);  // without `legacy`
        check_parameters("mchad", get_objective("mchad").parameters, parameters);
        return ops::direct_loss("mchad", std::vector{distances, target}, parameters,
                                parse_reduction(reduction, "mchad"))
            .loss;
      },
      {at::Tag::pt2_compliant_tag});
}

}  // namespace ood
