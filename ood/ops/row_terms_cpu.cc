// The fused CPU path: blocks of rows through the kernels and the formula.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>

#include "ood/kernels/row.h"
#include "ood/ops/layout.h"
#include "ood/ops/row_terms.h"

namespace ood::ops {
namespace {

constexpr std::int64_t kBlockBytes = 256 * 1024;
constexpr std::int64_t kMaxBlockRows = 512;
constexpr std::int64_t kGrain = 16 * 1024;  // numbers below which a second thread costs more

template <class F>
struct Typed;
template <>
struct Typed<float> {
  static auto forward(const FormulaEntry& e) { return e.forward_f32; }
  static auto backward(const FormulaEntry& e) { return e.backward_f32; }
  static auto scale(const FormulaEntry& e) { return e.scale_f32; }
};
template <>
struct Typed<double> {
  static auto forward(const FormulaEntry& e) { return e.forward_f64; }
  static auto backward(const FormulaEntry& e) { return e.backward_f64; }
  static auto scale(const FormulaEntry& e) { return e.scale_f64; }
};

// Blocks do not depend on the number of threads, so that neither do results.
std::int64_t block_rows(std::int64_t classes, std::size_t element) {
  const auto bytes = classes * static_cast<std::int64_t>(element);
  return std::clamp<std::int64_t>(kBlockBytes / bytes, 1, kMaxBlockRows);
}

template <class Body>
void for_each_block(std::int64_t rows, std::int64_t classes, std::int64_t per_block,
                    const Body& body) {
  const std::int64_t blocks = (rows + per_block - 1) / per_block;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (per_block * classes));
  at::parallel_for(0, blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      body(b, b * per_block, std::min(per_block, rows - b * per_block));
  });
}

// Everything a call reads, as pointers.
template <class F>
struct Input {
  const ObjectiveEntry& entry;
  const RowTermsArguments& args;
  at::Tensor rows_owner, target_owner, extras_owner, weight_owner;
  std::int64_t rows, classes, stride;
  const F* data;
  const std::int64_t* target;
  const F* extras = nullptr;
  const F* weight = nullptr;

  explicit Input(const ObjectiveEntry& e, const RowTermsArguments& a)
      : entry(e), args(a), rows_owner(as_rows(a.logits)), target_owner(a.target.contiguous()) {
    rows = rows_owner.size(0);
    classes = rows_owner.size(1);
    stride = rows_owner.stride(0);
    data = rows_owner.const_data_ptr<F>();
    target = target_owner.const_data_ptr<std::int64_t>();
    if (a.extras.has_value() && a.extras->defined()) {
      extras_owner = a.extras->contiguous();
      extras = extras_owner.const_data_ptr<F>();
    }
    if (a.weight.has_value() && a.weight->defined()) {
      weight_owner = a.weight->contiguous();
      weight = weight_owner.const_data_ptr<F>();
    }
  }

  bool ignored(std::int64_t label) const {
    return args.ignore_index.has_value() && label == *args.ignore_index;
  }
};

// The scratch of one block; lives on the stack of the thread that works on it.
template <class F>
struct Scratch {
  std::array<std::uint8_t, kMaxBlockRows> active;
  std::array<F, kMaxBlockRows> scale, scaled_max, target_logit, a, b, c, d;
};

// Marks the rows that take part. Returns the first row whose label is too large, or -1.
template <class F>
std::int64_t mark_active(const Input<F>& in, std::int64_t begin, std::int64_t n, Scratch<F>& s,
                         std::int64_t* counts) {
  std::int64_t bad = -1;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t label = in.target[begin + i];
    const bool ignored = in.ignored(label);
    const bool too_large = !ignored && label >= in.classes;
    if (too_large && bad < 0) bad = begin + i;
    s.active[i] = !ignored && !too_large && (label >= 0 || in.entry.uses_ood);
    if (counts != nullptr && !ignored) ++counts[label >= 0 ? 0 : 1];
  }
  return bad;
}

template <class F>
kernels::Rows<F> block_view(const Input<F>& in, std::int64_t begin, std::int64_t n,
                            const Scratch<F>& s) {
  return {in.data + begin * in.stride,
          n,
          in.classes,
          in.stride,
          s.active.data(),
          in.entry.row.scaled ? s.scale.data() : nullptr};
}

template <class F>
void compute_scale(const Input<F>& in, std::int64_t n, const F* sqnorm, Scratch<F>& s) {
  if (in.entry.row.scaled)
    Typed<F>::scale(in.entry.row)(in.args.parameters.data(), n, sqnorm, s.scale.data());
}

// The formula's view of a block; `statistics` is the saved tensor [S, rows].
template <class F>
RowBlock<F> formula_block(const Input<F>& in, std::int64_t begin, std::int64_t n, Scratch<F>& s,
                          const F* statistics) {
  const StatisticsLayout layout(in.entry.row);
  const auto at = [&](int row) -> const F* {
    return row < 0 ? nullptr : statistics + row * in.rows + begin;
  };
  const F* max = at(0);
  const bool scaled = in.entry.row.scaled;
  if (scaled)
    for (std::int64_t i = 0; i < n; ++i) s.scaled_max[i] = s.scale[i] * max[i];
  const bool needs_target = (in.entry.row.statistics & kNll) != 0;
  for (std::int64_t i = 0; needs_target && i < n; ++i) {
    const std::int64_t label = in.target[begin + i];
    s.target_logit[i] = 0;
    if (!s.active[i] || label < 0) continue;
    const F relative = in.data[(begin + i) * in.stride + label] - max[i];
    s.target_logit[i] = scaled ? s.scale[i] * relative : relative;
  }
  return {.rows = n,
          .classes = in.classes,
          .target = in.target + begin,
          .active = s.active.data(),
          .max = scaled ? s.scaled_max.data() : max,
          .log_sum = at(1),
          .mean = at(layout.mean),
          .expected = at(layout.expected),
          .sqnorm = at(layout.sqnorm),
          .target_logit = s.target_logit.data(),
          .weight = in.weight == nullptr ? nullptr : in.weight + begin,
          .extras = in.extras == nullptr ? nullptr : in.extras + begin,
          .extra_stride = in.rows};
}

template <class F>
ForwardParts forward(const ObjectiveEntry& entry, const RowTermsArguments& a) {
  const Input<F> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
  const std::int64_t per_block = block_rows(in.classes, sizeof(F));
  const std::int64_t blocks = (in.rows + per_block - 1) / per_block;

  ForwardParts out;
  out.statistics = at::empty({layout.count, in.rows}, a.logits.options());
  out.counts = at::empty({2}, a.target.options().dtype(at::kLong));
  F* per_row = nullptr;
  if (a.per_row) {
    auto shape = a.target.sizes().vec();
    shape.insert(shape.begin(), terms);
    out.terms = at::empty(shape, a.logits.options());
    per_row = out.terms.mutable_data_ptr<F>();
  } else {
    out.terms = at::empty({2, terms}, a.logits.options());
  }

  struct Partial {
    std::int64_t counts[2] = {0, 0};
    std::int64_t bad = -1;
  };
  std::vector<Partial> partial(blocks);
  std::vector<double> sums(blocks * 2 * terms, 0.0);
  F* const statistics = out.statistics.mutable_data_ptr<F>();

  for_each_block(
      in.rows, in.classes, per_block, [&](std::int64_t b, std::int64_t begin, std::int64_t n) {
        Scratch<F> s;
        partial[b].bad = mark_active(in, begin, n, s, partial[b].counts);
        const auto at = [&](int row) {
          return row < 0 ? nullptr : statistics + row * in.rows + begin;
        };
        auto view = block_view(in, begin, n, s);
        if (layout.sqnorm >= 0) kernels::row_square_norms(view, at(layout.sqnorm));
        compute_scale(in, n, at(layout.sqnorm), s);
        kernels::row_statistics(
            view, kernels::RowStatistics<F>{at(0), at(1), at(layout.mean), at(layout.expected)});
        Typed<F>::forward(entry.row)(
            a.parameters.data(), formula_block(in, begin, n, s, statistics),
            ForwardResult<F>{sums.data() + b * 2 * terms,
                             per_row == nullptr ? nullptr : per_row + begin, in.rows});
      });

  std::int64_t counts[2] = {0, 0};
  for (const Partial& p : partial) {
    if (p.bad >= 0)
      TORCH_CHECK_INDEX(false, entry.name, ": expected labels below the number of classes ",
                        in.classes, ", got ", in.target[p.bad], " in row ", p.bad);
    counts[0] += p.counts[0];
    counts[1] += p.counts[1];
  }
  std::copy(counts, counts + 2, out.counts.mutable_data_ptr<std::int64_t>());
  if (!a.per_row) {
    F* to = out.terms.mutable_data_ptr<F>();
    for (std::int64_t t = 0; t < 2 * terms; ++t) {
      double sum = 0;
      for (std::int64_t b = 0; b < blocks; ++b) sum += sums[b * 2 * terms + t];
      to[t] = static_cast<F>(sum);
    }
  }
  return out;
}

template <class F>
BackwardParts backward(const at::Tensor& upstream_in, const ObjectiveEntry& entry,
                       const RowTermsArguments& a, const at::Tensor& statistics_in,
                       bool want_extras, bool want_weight) {
  const Input<F> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto upstream = upstream_in.contiguous();
  const auto statistics = statistics_in.contiguous();
  const F* const saved = statistics.const_data_ptr<F>();
  const F* const up = upstream.const_data_ptr<F>();

  BackwardParts out;
  const NewRows grad = empty_rows_like(a.logits);
  out.logits = grad.shaped;
  F* const to = grad.rows.mutable_data_ptr<F>();
  F *extras = nullptr, *weight = nullptr;
  if (want_extras && in.extras != nullptr) {
    out.extras = at::empty(a.extras->sizes(), a.logits.options());
    extras = out.extras.mutable_data_ptr<F>();
  }
  if (want_weight && in.weight != nullptr) {
    out.weight = at::empty(a.target.sizes(), a.logits.options());
    weight = out.weight.mutable_data_ptr<F>();
  }

  for_each_block(
      in.rows, in.classes, block_rows(in.classes, sizeof(F)),
      [&](std::int64_t, std::int64_t begin, std::int64_t n) {
        Scratch<F> s;
        mark_active(in, begin, n, s, nullptr);
        const F* sqnorm = layout.sqnorm < 0 ? nullptr : saved + layout.sqnorm * in.rows + begin;
        compute_scale(in, n, sqnorm, s);
        Typed<F>::backward(entry.row)(
            a.parameters.data(), formula_block(in, begin, n, s, saved),
            Upstream<F>{a.per_row ? up + begin : up, in.rows, a.per_row},
            BackwardResult<F>{s.a.data(), s.b.data(), s.c.data(), s.d.data(),
                              weight == nullptr ? nullptr : weight + begin,
                              extras == nullptr ? nullptr : extras + begin, in.rows});
        F* const block_grad = to + begin * in.classes;
        kernels::row_gradient(
            block_view(in, begin, n, s),
            kernels::RowCoefficients<F>{saved + begin, saved + in.rows + begin, s.a.data(),
                                        s.b.data(), entry.row.needs_input ? s.d.data() : nullptr},
            block_grad, in.classes);
        for (std::int64_t i = 0; i < n; ++i)
          if (s.active[i] && in.target[begin + i] >= 0)
            block_grad[i * in.classes + in.target[begin + i]] += s.c[i];
      });
  return out;
}

}  // namespace

ForwardParts row_terms_cpu(const RowTermsArguments& a) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  check_inputs(entry, a.logits, a.target, a.extras, a.weight);
  check_parameters(entry, a.parameters.data(), a.parameters.size());
  return a.logits.scalar_type() == at::kDouble ? forward<double>(entry, a)
                                               : forward<float>(entry, a);
}

BackwardParts row_terms_backward_cpu(const at::Tensor& upstream, const RowTermsArguments& a,
                                     const at::Tensor& statistics, bool want_extras,
                                     bool want_weight) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  return a.logits.scalar_type() == at::kDouble
             ? backward<double>(upstream, entry, a, statistics, want_extras, want_weight)
             : backward<float>(upstream, entry, a, statistics, want_extras, want_weight);
}

}  // namespace ood::ops
