// Deep SVDD and Deep SAD from embedding and center in one step, with the gradient written out.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <numeric>
#include <vector>

#include "ood/kernels/distance.h"
#include "ood/objectives/deep_svdd.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distances.h"

namespace ood {
namespace {

using at::Tensor;
using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kEmbedding, kCenter, kTarget, kRadius };  // of the inputs; Deep SAD has no radius

Tensor distances_of(Inputs in) {
  return center_distances(in[kEmbedding], in[kCenter].reshape({1, -1}), true).squeeze(1);
}

/// A row's value and its derivative by the squared distance.
template <class F>
struct Row {
  F value = 0, slope = 0;
};

// sum_i scale f(y_i, d_i) with d_i = ||x_i - c||^2:  dx_i = 2 scale f' (x_i - c),  dc = -sum dx_i
template <class F, class RowOf>
std::vector<Tensor> sphere_parts(Inputs in, std::int64_t wanted, double scale,
                                 const RowOf& row_of) {
  const auto x = in[kEmbedding].contiguous(), c = in[kCenter].contiguous(),
             target = in[kTarget].contiguous();
  const auto n = x.size(0), width = x.size(1);
  const bool want_x = ops::wants(wanted, kEmbedding), want_c = ops::wants(wanted, kCenter);
  auto to_x = want_x || want_c ? at::empty({n, width}, x.options()) : Tensor();
  const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
  const auto* y = target.const_data_ptr<std::int64_t>();
  F* g = to_x.defined() ? to_x.mutable_data_ptr<F>() : nullptr;
  std::vector<double> values(static_cast<std::size_t>(n));
  const auto grain = std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(width, 1));
  at::parallel_for(0, n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      F d = 0;
      kernels::square_distances(px + i * width, 1, pc, 1, width, &d, 1);
      const Row<F> row = row_of(y[i], d);
      values[static_cast<std::size_t>(i)] = row.value;
      const F weight = static_cast<F>(2 * scale) * row.slope;
      if (g != nullptr)
        kernels::weighted_differences(px + i * width, pc, 1, width, &weight, 1, g + i * width);
    }
  });
  std::vector<Tensor> parts(in.size() + 1);
  parts[0] = ops::scalar<F>(scale * std::accumulate(values.begin(), values.end(), 0.0), x);
  if (want_x) parts[1 + kEmbedding] = to_x;
  if (want_c) parts[1 + kCenter] = to_x.sum(0).neg().view(c.sizes());
  return parts;
}

// Deep SVDD: f = max(0, d - R^2) over ID rows.
Tensor svdd_composite(Inputs in, Numbers n) {
  const auto rows = (distances_of(in) - in[kRadius].reshape({}).square()).relu();
  return reduce_rows(rows, in[kTarget].ge(0), reduction_name(n[0]));
}

std::vector<Tensor> svdd_parts(Inputs in, Numbers n, std::int64_t wanted) {
  return ops::with_type(in[kEmbedding], "svdd_hinge_loss", [&](auto zero) {
    using F = decltype(zero);
    const F radius = in[kRadius].const_data_ptr<F>()[0], square = radius * radius;
    const auto known = in[kTarget].ge(0).sum().item<std::int64_t>();
    return sphere_parts<F>(in, wanted, ops::mean_factor(n[0] != 0, known),
                           [&](std::int64_t y, F d) -> Row<F> {
                             return y < 0 || d <= square ? Row<F>{} : Row<F>{d - square, 1};
                           });
  });
}

// Deep SAD: f = d; labelled normal eta (d + eps); labelled outlier eta / (d + eps).
Tensor sad_composite(Inputs in, Numbers n) {
  return sad_loss(distances_of(in), in[kTarget], n[0], n[1], reduction_name(n[2]));
}

std::vector<Tensor> sad_parts(Inputs in, Numbers n, std::int64_t wanted) {
  return ops::with_type(in[kEmbedding], "sad_embedding_loss", [&](auto zero) {
    using F = decltype(zero);
    const F eta = static_cast<F>(n[0]), eps = static_cast<F>(n[1]);
    return sphere_parts<F>(in, wanted, ops::mean_factor(n[2] != 0, in[kTarget].numel()),
                           [&](std::int64_t y, F d) -> Row<F> {
                             if (y == 0) return {d, 1};
                             if (y > 0) return {eta * (d + eps), eta};
                             return {eta / (d + eps), -eta / ((d + eps) * (d + eps))};
                           });
  });
}

constexpr ops::DirectLoss kSvdd{"svdd_hinge_loss", 4, 1, svdd_composite, svdd_parts};
constexpr ops::DirectLoss kSad{"sad_embedding_loss", 3, 3, sad_composite, sad_parts};
[[maybe_unused]] const bool registered[] = {ops::register_direct_loss(kSvdd),
                                            ops::register_direct_loss(kSad)};

void check(const char* op, const Tensor& embedding, const Tensor& center, const Tensor& target) {
  TORCH_CHECK_VALUE(embedding.dim() == 2 && center.sym_numel() == embedding.sym_size(1), op,
                    ": expected embedding [N, D] and center [D], got ", embedding.sym_sizes(),
                    " and ", center.sym_sizes());
  TORCH_CHECK_VALUE(target.dim() == 1 && target.sym_size(0) == embedding.sym_size(0), op,
                    ": expected target [", embedding.sym_size(0), "], got ", target.sym_sizes());
}

}  // namespace

Tensor svdd_hinge_loss(const Tensor& embedding, const Tensor& center, const Tensor& target,
                       const Tensor& radius, std::string_view reduction) {
  check("svdd_hinge_loss", embedding, center, target);
  // Of a copy of the radius: it may be updated before the backward pass.
  const auto x = ops::widened(embedding);
  return ops::direct_loss(
      kSvdd,
      {x, center.to(x.scalar_type()), ops::class_labels(target, DeepSvdd::kName),
       ops::one_number(radius, x, DeepSvdd::kName, "radius").detach().clone()},
      {reduction_is_sum(reduction)});
}

Tensor sad_embedding_loss(const Tensor& embedding, const Tensor& center, const Tensor& semi_target,
                          double eta, double eps, std::string_view reduction) {
  check("sad_embedding_loss", embedding, center, semi_target);
  const auto x = ops::widened(embedding);
  return ops::direct_loss(
      kSad, {x, center.to(x.scalar_type()), ops::class_labels(semi_target, DeepSad::kName)},
      {eta, eps, reduction_is_sum(reduction)});
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::vector<at::Tag> tag{at::Tag::pt2_compliant_tag};
  m.def(
      "svdd_hinge_loss(Tensor embedding, Tensor center, Tensor target, Tensor radius, "
      "str reduction='mean') -> Tensor",
      svdd_hinge_loss, tag);
  m.def(
      "sad_embedding_loss(Tensor embedding, Tensor center, Tensor semi_target, float eta=1, "
      "float eps=1e-6, str reduction='mean') -> Tensor",
      sad_embedding_loss, tag);
}

}  // namespace ood
