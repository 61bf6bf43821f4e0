#include "ood/objectives/ii.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <numeric>

#include "ood/kernels/distance.h"
#include "ood/ops/by_type.h"
#include "ood/ops/closest_pair.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distances.h"
#include "ood/ops/row_values.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(Ii);

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
  static auto op =
      ops::find_op<at::Tensor(const at::Tensor&, const at::Tensor&)>("ood::closest_pair");
  return op.call(rows.detach(), counts);
}

enum { kEmbedding, kLabels, kClasses };  // of the inputs; the last has a row a class

void check(Tensors in) {
  const auto &embedding = in[kEmbedding], &target = in[kLabels];
  TORCH_CHECK_VALUE(
      embedding.dim() == 2 && target.dim() == 1 && target.sym_size(0) == embedding.sym_size(0),
      "ii: expected embedding [N, D] and target [N], got ", embedding.sym_sizes(), " and ",
      target.sym_sizes());
  TORCH_CHECK_VALUE(in[kClasses].size(0) >= 1, "ii: expected at least 1 class, got ",
                    in[kClasses].size(0));
}

// Features as a training takes them: normalised without an affine part, by the batch or by the
// running statistics.
at::Tensor normalised(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& var,
                      bool by_batch) {
  return at::batch_norm(x, {}, {}, by_batch ? at::Tensor() : mean, by_batch ? at::Tensor() : var,
                        by_batch, /*momentum=*/0, /*eps=*/1e-5, /*cudnn_enabled=*/false);
}

}  // namespace

std::vector<at::Tensor> Ii::start(const Sizes& s) const {
  return {at::zeros({s.classes}, at::kLong), at::zeros({s.classes, s.dimension}),
          at::zeros({s.dimension}), at::ones({s.dimension})};
}

// How many classes there are, the counts tell, which the loss does not read.
std::vector<at::Tensor> Ii::prepare(Tensors in) const {
  if (in.size() < 5) return in.vec();
  return {normalised(in[kEmbedding], {}, {}, true), in[kLabels], in[kClasses]};
}

std::vector<Term> Ii::composite(Tensors in) const {
  check(in);
  const auto& x = in[kEmbedding];
  const auto [means, counts] = class_means(x, in[kLabels], in[kClasses].size(0));
  auto intra = own_center_distances(x, means, in[kLabels]);
  if (normalize_by_dim) intra = intra / static_cast<double>(x.size(1));
  // The same pair twice, where there are fewer than two classes, has distance 0 and no gradient.
  const auto pair = means.index_select(0, find_closest_pair(means, counts));
  return {{0, intra, in[kLabels].ge(0)},
          {1, -alpha * (pair.select(0, 0) - pair.select(0, 1)).square().sum(), {}}};
}

namespace {

// The differences of a class to its mean sum to 0, so what a row does to the mean does not matter:
//
//   d intra / dx_i = 2 scale (x_i - mu_y)
//   d -alpha inter / dx_i = -+(2 alpha / n_y) (mu_a - mu_b) for rows of the closest classes a, b
template <class F>
Parts parts_of(const Ii& p, Tensors in, std::int64_t classes, bool sum, bool want) {
  const auto x = in[kEmbedding].contiguous(), target = in[kLabels].contiguous();
  const auto n = x.size(0), width = x.size(1);
  const auto [means_in, counts] = class_means(x, target, classes);
  const auto means = means_in.contiguous();
  const auto [a, b] = ops::closest_pair(means, counts.contiguous());
  const auto* y = target.template const_data_ptr<std::int64_t>();
  const auto known = std::count_if(y, y + n, [](std::int64_t label) { return label >= 0; });
  const double scale =
      ops::mean_factor(sum, known) / (p.normalize_by_dim ? static_cast<double>(width) : 1.0);
  auto gradient = want ? at::empty({n, width}, x.options()) : at::Tensor();
  const F *px = x.template const_data_ptr<F>(), *mean = means.template const_data_ptr<F>();
  F* to = want ? gradient.template mutable_data_ptr<F>() : nullptr;
  std::vector<double> distances(static_cast<std::size_t>(n), 0.0);
  const F weight = static_cast<F>(2 * scale);
  const auto* count = counts.template const_data_ptr<std::int64_t>();
  const F *mean_a = mean + a * width, *mean_b = mean + b * width;
  const auto pull = [&](std::int64_t label) {
    const double size = static_cast<double>(std::max<std::int64_t>(count[label], 1));
    return static_cast<F>((label == a ? -2 : 2) * p.alpha / size);
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
                       kernels::weighted_difference(row, own, width, weight, g);
                       if (a == b || (y[i] != a && y[i] != b)) continue;
                       const F by = pull(y[i]);
                       for (std::int64_t k = 0; k < width; ++k)
                         g[k] += by * (mean_a[k] - mean_b[k]);
                     }
                   });
  F inter = 0;
  kernels::square_distances(mean_a, 1, mean_b, 1, width, &inter, 1);
  const double intra = scale * std::accumulate(distances.begin(), distances.end(), 0.0);
  return {{intra, -p.alpha * static_cast<double>(inter)}, {gradient, {}, {}}};
}

}  // namespace

Parts Ii::parts(Tensors in, bool sum, std::int64_t wanted) const {
  check(in);
  return ops::by_type(in[kEmbedding], "ii", [&](auto zero) {
    return parts_of<decltype(zero)>(*this, in, in[kClasses].size(0), sum,
                                    ops::wants(wanted, kEmbedding));
  });
}

void Ii::update(Tensors in, Tensors state, const Event& event) const {
  const bool training = state.size() > 2;
  const auto take = [&](const at::Tensor& x, const at::Tensor& target, bool by_batch) {
    running_means_update_(state[1], state[0],
                          training ? normalised(x, state[2], state[3], by_batch) : x, target, 0);
  };
  if (event.kind == Event::kStep) {
    take(in[kEmbedding], in[kLabels], true);
    if (training) {
      constexpr double kMomentum = 0.1;
      state[2].lerp_(in[kEmbedding].mean(0), kMomentum);
      state[3].lerp_(in[kEmbedding].var(0), kMomentum);
    }
  } else if (event.kind != Event::kBegin) {
    // The running means of a training lag behind the network; validation and test use its own.
    state[0].zero_();
    state[1].zero_();
    event.pass([&](Tensors batch) { take(batch[kEmbedding], batch[kLabels], false); });
  }
}

at::Tensor Ii::distances(const at::Tensor& embedding, Tensors state) const {
  return center_distances(embedding, state[1], true)
      .masked_fill(state[0].eq(0), std::numeric_limits<float>::infinity());
}

void Ii::readout(const NetworkOutput& output, Tensors state, Readout& r) const {
  const bool trained = state.size() > 2;
  const auto d = distances(
      trained ? normalised(output.features, state[2], state[3], false) : output.features, state);
  r.score = d.amin(1);
  // Without cross-entropy nothing trains the last layer, and the nearest mean is the class.
  if (cross_entropy > 0) return;
  r.evidence = d.neg();
  r.logits = at::Tensor();
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("closest_pair(Tensor rows, Tensor counts) -> Tensor", {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("closest_pair", closest_pair_cpu); }
TORCH_LIBRARY_IMPL(ood, Meta, m) { m.impl("closest_pair", closest_pair_meta); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("closest_pair", closest_pair_composite); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) {
  m.impl("closest_pair", closest_pair_composite);
}

}  // namespace ood
