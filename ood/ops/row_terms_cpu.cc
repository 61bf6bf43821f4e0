// The fused CPU path of row_terms: its value with the statistics its gradient needs, then that.
#include "ood/ops/row_blocks.h"

namespace ood::ops {
namespace {

// The rows of the saved statistics [S, rows] that belong to a block.
template <class F>
BlockStatistics<F> saved_statistics(const StatisticsLayout& layout, F* statistics,
                                    std::int64_t rows, const Block& block) {
  const auto at = [&](int row) {
    return row < 0 ? nullptr : statistics + row * rows + block.begin;
  };
  return {at(0), at(1), at(layout.mean), at(layout.expected), at(layout.sqnorm), at(layout.target)};
}

template <class S>
ForwardParts forward(const ObjectiveEntry& entry, const RowTermsArguments& a) {
  using F = Computing<S>;
  const Input<S> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
  const auto options = a.logits.options().dtype(computing_type(a.logits));
  ForwardParts out;
  out.statistics = at::empty({layout.count, in.rows}, options);
  out.counts = at::empty({2}, a.target.options().dtype(at::kLong));
  F* per_row = nullptr;
  if (a.per_row) {
    auto shape = a.target.sizes().vec();
    shape.insert(shape.begin(), terms);
    out.terms = at::empty(shape, options);
    per_row = out.terms.template mutable_data_ptr<F>();
  } else {
    out.terms = at::empty({2, terms}, options);
  }
  const auto counts = count_rows(in);
  std::copy(counts.begin(), counts.end(), out.counts.mutable_data_ptr<std::int64_t>());

  std::vector<double> sums(static_cast<std::size_t>(in.blocks.count * 2 * terms), 0.0);
  F* const statistics = out.statistics.template mutable_data_ptr<F>();
  for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
    const auto saved = saved_statistics(layout, statistics, in.rows, block);
    BlockPass<S> pass(in, block, scratch);
    pass.statistics(saved, nullptr);
    evaluator<F>(entry.row).forward(
        a.parameters.data(), pass.formula(saved),
        ForwardResult<F>{sums.data() + b * 2 * terms,
                         per_row == nullptr ? nullptr : per_row + block.begin, in.rows});
  });
  if (!a.per_row) {
    F* to = out.terms.template mutable_data_ptr<F>();
    for (const double sum : add_up(sums, 2 * terms)) *to++ = static_cast<F>(sum);
  }
  return out;
}

template <class S>
BackwardParts backward(const at::Tensor& upstream_in, const ObjectiveEntry& entry,
                       const RowTermsArguments& a, const at::Tensor& statistics_in,
                       bool want_extras, bool want_weight) {
  using F = Computing<S>;
  const Input<S> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto upstream = upstream_in.contiguous();
  const auto statistics = statistics_in.contiguous();
  const F* const up = upstream.const_data_ptr<F>();
  F* const saved = const_cast<F*>(statistics.const_data_ptr<F>());  // only read

  const Gradients<S> out(in, want_extras, want_weight);
  for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
    const auto from = saved_statistics(layout, saved, in.rows, block);
    BlockPass<S> pass(in, block, scratch);
    pass.compute_scale(from.sqnorm);
    pass.coefficients(from, {a.per_row ? up + block.begin : up, in.rows, a.per_row}, out.to_weight,
                      out.to_extras, nullptr);
    const auto stored = out.part(in, b);
    pass.gradient(from, pass.gradient_room(stored), stored);
  });
  return {out.logits, out.extras, out.weight};
}

}  // namespace

ForwardParts row_terms_cpu(const ObjectiveEntry& entry, const RowTermsArguments& a) {
  check_inputs(entry, a.logits, a.target, a.extras, a.weight);
  check_parameters(entry.name, entry.parameters, a.parameters);
  return by_logits_type(a.logits, [&](auto s) { return forward<decltype(s)>(entry, a); });
}

BackwardParts row_terms_backward_cpu(const ObjectiveEntry& entry, const at::Tensor& upstream,
                                     const RowTermsArguments& a, const at::Tensor& statistics,
                                     bool want_extras, bool want_weight) {
  return by_logits_type(a.logits, [&](auto s) {
    return backward<decltype(s)>(upstream, entry, a, statistics, want_extras, want_weight);
  });
}

}  // namespace ood::ops
