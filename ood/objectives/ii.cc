#include "ood/objectives/ii.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <numeric>

#include "ood/kernels/distance.h"
#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distance_products.h"
#include "ood/ops/distances.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Ii);

namespace {

at::Tensor closest_pair_cpu(const at::Tensor& rows, const at::Tensor& counts_in) {
  TORCH_CHECK_VALUE(rows.dim() == 2 && counts_in.dim() == 1 && counts_in.size(0) == rows.size(0),
                    "closest_pair: expected rows [K, D] and counts [K], got ", rows.sizes(),
                    " and ", counts_in.sizes());
  const auto counts = counts_in.contiguous();
  const auto [i, j] = ops::closest_pair(rows.detach().contiguous(), counts);
  auto pair = at::empty({2}, counts.options());
  pair.mutable_data_ptr<std::int64_t>()[0] = i;
  pair.mutable_data_ptr<std::int64_t>()[1] = j;
  return pair;
}

at::Tensor closest_pair_meta(const at::Tensor&, const at::Tensor& counts) {
  return at::empty({2}, counts.options());
}

// Any device, functorch: distances by ordinary operations.
at::Tensor closest_pair_composite(const at::Tensor& rows, const at::Tensor& counts) {
  const auto n = rows.size(0);
  auto d = center_distances(rows.detach(), rows.detach(), true);
  const auto index = at::arange(n, counts.options());
  const auto usable =
      counts.gt(0).unsqueeze(1).logical_and(counts.gt(0)).logical_and(index.unsqueeze(1).lt(index));
  d = d.masked_fill(usable.logical_not(), std::numeric_limits<double>::infinity());
  const auto best = d.flatten().argmin();
  const auto any = usable.any();
  return at::where(any, at::stack({best.div(n, "floor"), best.remainder(n)}),
                   at::zeros({2}, counts.options()));
}

at::Tensor find_closest_pair(const at::Tensor& rows, const at::Tensor& counts) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("ood::closest_pair", "")
                       .typed<at::Tensor(const at::Tensor&, const at::Tensor&)>();
  return op.call(rows.detach(), counts);
}

void check(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes) {
  TORCH_CHECK_VALUE(
      embedding.dim() == 2 && target.dim() == 1 && target.sym_size(0) == embedding.sym_size(0),
      "ii: expected embedding [N, D] and target [N], got ", embedding.sym_sizes(), " and ",
      target.sym_sizes());
  TORCH_CHECK_VALUE(classes >= 1, "ii: expected at least 1 class, got ", classes);
}

}  // namespace

IiParts ii_parts(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes,
                 bool normalize_by_dim) {
  check(embedding, target, classes);
  const auto [means, counts] = class_means(embedding, target, classes);
  auto intra = own_center_distances(embedding, means, target);
  if (normalize_by_dim) intra = intra / static_cast<double>(embedding.size(1));
  // The same pair twice, where there are fewer than two classes, has distance 0 and no gradient.
  const auto pair = means.index_select(0, find_closest_pair(means, counts));
  return {intra, (pair.select(0, 0) - pair.select(0, 1)).square().sum()};
}

namespace {

using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kEmbedding, kTarget };                      // of the inputs
enum { kClasses, kAlpha, kNormalizeByDim, kSum };  // of the numbers

at::Tensor composite(Inputs in, Numbers n) {
  const auto parts = ii_parts(in[kEmbedding], in[kTarget], static_cast<std::int64_t>(n[kClasses]),
                              n[kNormalizeByDim] != 0);
  return reduce_rows(parts.intra, in[kTarget].ge(0), reduction_name(n[kSum])) -
         n[kAlpha] * parts.inter;
}

// The differences of a class to its mean sum to 0, so what a row does to the mean does not matter:
//
//   d intra / dx_i = 2 scale (x_i - mu_y)
//   d -alpha inter / dx_i = -+(2 alpha / n_y) (mu_a - mu_b) for the rows of the closest classes a,
//   b
template <class F>
std::vector<at::Tensor> parts_of(Inputs in, Numbers numbers, bool want) {
  const auto x = in[kEmbedding].contiguous(), target = in[kTarget].contiguous();
  const auto n = x.size(0), width = x.size(1);
  const auto [means_in, counts] =
      class_means(x, target, static_cast<std::int64_t>(numbers[kClasses]));
  const auto means = means_in.contiguous();
  const auto [a, b] = ops::closest_pair(means, counts.contiguous());
  const auto* y = target.template const_data_ptr<std::int64_t>();
  const auto known = std::count_if(y, y + n, [](std::int64_t label) { return label >= 0; });
  const double scale = ops::mean_factor(numbers[kSum] != 0, known) /
                       (numbers[kNormalizeByDim] != 0 ? static_cast<double>(width) : 1.0);
  auto gradient = want ? at::empty({n, width}, x.options()) : at::Tensor();
  const F *px = x.template const_data_ptr<F>(), *mean = means.template const_data_ptr<F>();
  F* to = want ? gradient.template mutable_data_ptr<F>() : nullptr;
  std::vector<double> distances(static_cast<std::size_t>(n), 0.0);
  const F weight = static_cast<F>(2 * scale);
  const auto* count = counts.template const_data_ptr<std::int64_t>();
  const F *mean_a = mean + a * width, *mean_b = mean + b * width;
  const auto pull = [&](std::int64_t label) {
    const double size = static_cast<double>(std::max<std::int64_t>(count[label], 1));
    return static_cast<F>((label == a ? -2 : 2) * numbers[kAlpha] / size);
  };
  at::parallel_for(0, n, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(width, 1)),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (auto i = begin; i < end; ++i) {
                       const F* row = px + i * width;
                       F* g = want ? to + i * width : nullptr;
                       if (y[i] < 0) {
                         if (want) std::fill(g, g + width, F{0});
                         continue;
                       }
                       const F* own = mean + y[i] * width;
                       F distance = 0;
                       kernels::square_distances(row, 1, own, 1, width, &distance, 1);
                       distances[static_cast<std::size_t>(i)] = distance;
                       if (!want) continue;
                       kernels::weighted_differences(row, own, 1, width, &weight, 1, g);
                       if (a == b || (y[i] != a && y[i] != b)) continue;
                       const F by = pull(y[i]);
                       for (std::int64_t k = 0; k < width; ++k)
                         g[k] += by * (mean_a[k] - mean_b[k]);
                     }
                   });
  F inter = 0;
  kernels::square_distances(mean_a, 1, mean_b, 1, width, &inter, 1);
  const double intra = scale * std::accumulate(distances.begin(), distances.end(), 0.0);
  return {ops::scalar<F>(intra - numbers[kAlpha] * inter, x), gradient, at::Tensor()};
}

std::vector<at::Tensor> parts(Inputs in, Numbers numbers, std::int64_t wanted) {
  return ops::with_type(in[kEmbedding], "ii_loss", [&](auto zero) {
    return parts_of<decltype(zero)>(in, numbers, ops::wants(wanted, kEmbedding));
  });
}

constexpr ops::DirectLoss kDirect{"ii_loss", 2, 4, composite, parts};
[[maybe_unused]] const bool direct_registered = ops::register_direct_loss(kDirect);

}  // namespace

at::Tensor ii_loss(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes,
                   double alpha, bool normalize_by_dim, std::string_view reduction) {
  check(embedding, target, classes);
  const auto labels = ops::class_labels(target, Ii::kName);
  if (reduction == "none")
    return reduce_rows(ii_parts(embedding, labels, classes, normalize_by_dim).intra, labels.ge(0),
                       reduction);
  return ops::direct_loss(kDirect, {ops::widened(embedding), labels},
                          {static_cast<double>(classes), alpha, normalize_by_dim ? 1.0 : 0.0,
                           reduction_is_sum(reduction)});
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "ii_loss(Tensor embedding, Tensor target, int classes, float alpha=1, "
      "bool normalize_by_dim=False, str reduction='mean') -> Tensor",
      ii_loss, {at::Tag::pt2_compliant_tag});
  m.def("closest_pair(Tensor rows, Tensor counts) -> Tensor", {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("closest_pair", closest_pair_cpu); }
TORCH_LIBRARY_IMPL(ood, Meta, m) { m.impl("closest_pair", closest_pair_meta); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("closest_pair", closest_pair_composite); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) {
  m.impl("closest_pair", closest_pair_composite);
}

}  // namespace ood
