#include "ood/objectives/ii.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ood/kernels/distance.h"
#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/distances.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Ii);

namespace {

// The closest pair of rows that are present, lowest indices first on ties; (0, 0) if there is none.
template <class F>
void closest_pair(const F* rows, const std::int64_t* counts, std::int64_t n, std::int64_t width,
                  std::int64_t* pair) {
  struct Best {
    F distance = std::numeric_limits<F>::infinity();
    std::int64_t other = -1;
  };
  std::vector<Best> best(static_cast<std::size_t>(n));
  at::parallel_for(0, n, 8, [&](std::int64_t begin, std::int64_t end) {
    std::vector<F> d(static_cast<std::size_t>(n));
    for (auto i = begin; i < end; ++i) {
      if (counts[i] == 0 || i + 1 == n) continue;
      kernels::square_distances(rows + i * width, 1, rows + (i + 1) * width, n - i - 1, width,
                                d.data(), n);
      for (std::int64_t j = i + 1; j < n; ++j)
        if (counts[j] > 0 &&
            d[static_cast<std::size_t>(j - i - 1)] < best[static_cast<std::size_t>(i)].distance)
          best[static_cast<std::size_t>(i)] = {d[static_cast<std::size_t>(j - i - 1)], j};
    }
  });
  F least = std::numeric_limits<F>::infinity();
  pair[0] = pair[1] = 0;
  for (std::int64_t i = 0; i < n; ++i)
    if (const Best& b = best[static_cast<std::size_t>(i)]; b.other >= 0 && b.distance < least) {
      least = b.distance;
      pair[0] = i;
      pair[1] = b.other;
    }
}

at::Tensor closest_pair_cpu(const at::Tensor& rows_in, const at::Tensor& counts_in) {
  const auto rows = rows_in.contiguous(), counts = counts_in.contiguous();
  auto pair = at::empty({2}, counts.options());
  auto* to = pair.mutable_data_ptr<std::int64_t>();
  const auto* n = counts.const_data_ptr<std::int64_t>();
  if (rows.scalar_type() == at::kDouble)
    closest_pair(rows.const_data_ptr<double>(), n, rows.size(0), rows.size(1), to);
  else
    closest_pair(rows.const_data_ptr<float>(), n, rows.size(0), rows.size(1), to);
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

}  // namespace

IiParts ii_parts(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes,
                 bool normalize_by_dim) {
  const auto [means, counts] = class_means(embedding, target, classes);
  auto intra = own_center_distances(embedding, means, target);
  if (normalize_by_dim) intra = intra / static_cast<double>(embedding.size(1));
  // The same pair twice, where there are fewer than two classes, has distance 0 and no gradient.
  const auto pair = means.index_select(0, find_closest_pair(means, counts));
  return {intra, (pair.select(0, 0) - pair.select(0, 1)).square().sum()};
}

at::Tensor ii_loss(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes,
                   double alpha, bool normalize_by_dim, std::string_view reduction) {
  const auto parts = ii_parts(embedding, target, classes, normalize_by_dim);
  const auto intra = reduce_rows(parts.intra, target.ge(0), reduction);
  return reduction == "none" ? intra : intra - alpha * parts.inter;
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
