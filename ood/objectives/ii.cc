#include "ood/objectives/ii.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/distance_products.h"
#include "ood/ops/distances.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Ii);

namespace {

at::Tensor closest_pair_cpu(const at::Tensor& rows, const at::Tensor& counts_in) {
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
