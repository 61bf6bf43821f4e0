// What turns sums over populations into means, for all objectives.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ood/ops/dispatch.h"
#include "ood/ops/row_terms.h"

namespace ood {
namespace {

using at::Tensor;

at::ScalarType scalar_type_of(std::int64_t type) { return static_cast<at::ScalarType>(type); }

template <class F>
Tensor mean_weights_typed(const Tensor& counts, std::int64_t terms, bool whole_batch,
                          at::ScalarType dtype) {
  auto out = at::empty({2, terms}, counts.options().dtype(dtype));
  const auto* n = counts.const_data_ptr<std::int64_t>();
  F* to = out.mutable_data_ptr<F>();
  for (int population = 0; population < 2; ++population) {
    const std::int64_t count = whole_batch ? n[0] + n[1] : n[population];
    for (std::int64_t t = 0; t < terms; ++t)
      to[population * terms + t] = F{1} / static_cast<F>(std::max<std::int64_t>(count, 1));
  }
  return out;
}

Tensor mean_weights_cpu(const Tensor& counts_in, std::int64_t terms, bool whole_batch,
                        std::int64_t dtype) {
  TORCH_CHECK_VALUE(counts_in.dim() == 1 && counts_in.size(0) == 2 &&
                        counts_in.scalar_type() == at::kLong && terms >= 0,
                    "mean_weights: expected two counts of int64 and a number of terms, got ",
                    counts_in.sizes(), " of ", counts_in.scalar_type(), " and ", terms);
  const auto counts = counts_in.contiguous();
  return scalar_type_of(dtype) == at::kDouble
             ? mean_weights_typed<double>(counts, terms, whole_batch, at::kDouble)
             : mean_weights_typed<float>(counts, terms, whole_batch, at::kFloat);
}

Tensor mean_weights_meta(const Tensor& counts, std::int64_t terms, bool, std::int64_t dtype) {
  return at::empty({2, terms}, counts.options().dtype(scalar_type_of(dtype)));
}

Tensor mean_weights_composite(const Tensor& counts, std::int64_t terms, bool whole_batch,
                              std::int64_t dtype) {
  const auto n = whole_batch ? counts.sum().expand({2}) : counts;
  return n.clamp_min(1).to(scalar_type_of(dtype)).reciprocal().unsqueeze(1).expand({2, terms});
}

}  // namespace

Tensor mean_weights(const Tensor& counts, std::int64_t terms, bool whole_batch,
                    at::ScalarType dtype) {
  static auto op =
      ops::find_op<Tensor(const Tensor&, std::int64_t, bool, std::int64_t)>("ood::mean_weights");
  return op.call(counts, terms, whole_batch, static_cast<std::int64_t>(dtype));
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("mean_weights(Tensor counts, int terms, bool whole_batch, int dtype) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def("objectives_json() -> str", [] { return objectives_json(); });
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("mean_weights", mean_weights_cpu); }
TORCH_LIBRARY_IMPL(ood, Meta, m) { m.impl("mean_weights", mean_weights_meta); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) {
  m.impl("mean_weights", mean_weights_composite);
}

}  // namespace ood
