// The fused CPU path: blocks of rows through the kernels and the formula.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>

#include "ood/kernels/columns.h"
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

// The samples of an image in blocks. They do not depend on the number of threads, so that neither
// do results.
struct Blocks {
  Layout layout;
  std::int64_t per_block, per_image, count;

  Blocks(const Layout& l, std::size_t element)
      : layout(l),
        per_block(std::clamp<std::int64_t>(
            kBlockBytes / (l.classes * static_cast<std::int64_t>(element)), 1, kMaxBlockRows)),
        per_image((l.inner + per_block - 1) / per_block),
        count(l.outer * per_image) {}
};

// Block b: `n` samples from `begin` on, in the order of the target; the first one's class 0 lies at
// `offset`.
struct Block {
  std::int64_t begin, n, offset;

  Block(const Blocks& all, std::int64_t b) {
    const std::int64_t image = b / all.per_image, start = b % all.per_image * all.per_block;
    begin = image * all.layout.inner + start;
    n = std::min(all.per_block, all.layout.inner - start);
    offset = image * all.layout.outer_stride + start * all.layout.sample_stride;
  }
};

template <class Body>
void for_each_block(const Blocks& blocks, const Body& body) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / (blocks.per_block * blocks.layout.classes));
  at::parallel_for(0, blocks.count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) body(b, Block(blocks, b));
  });
}

// Everything a call reads, as pointers.
template <class F>
struct Input {
  const ObjectiveEntry& entry;
  const RowTermsArguments& args;
  LaidOut logits;
  at::Tensor target_owner, extras_owner, weight_owner;
  Blocks blocks;
  std::int64_t rows, classes;
  const F* data;
  const std::int64_t* target;
  const F* extras = nullptr;
  const F* weight = nullptr;

  explicit Input(const ObjectiveEntry& e, const RowTermsArguments& a)
      : entry(e),
        args(a),
        logits(lay_out(a.logits)),
        target_owner(a.target.contiguous()),
        blocks(logits.layout, sizeof(F)),
        rows(logits.layout.samples()),
        classes(logits.layout.classes) {
    data = logits.owner.const_data_ptr<F>();
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
};

// The scratch of one block; lives on the stack of the thread that works on it.
template <class F>
struct Scratch {
  std::array<std::uint8_t, kMaxBlockRows> active;
  std::array<F, kMaxBlockRows> scale, scaled_max, a, b, c, d;
};

// Marks the rows that take part. Returns the first row whose label is too large, or -1.
template <class F>
std::int64_t mark_active(const Input<F>& in, std::int64_t begin, std::int64_t n, Scratch<F>& s,
                         std::int64_t* counts) {
  const std::int64_t* label = in.target + begin;
  const bool uses_ood = in.entry.uses_ood, ignoring = in.args.ignore_index.has_value();
  const std::int64_t ignored = in.args.ignore_index.value_or(0);
  std::int64_t known = 0, unknown = 0, too_large = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const bool taken = !ignoring || label[i] != ignored;
    const bool is_known = taken && label[i] >= 0, is_unknown = taken && label[i] < 0;
    known += is_known;
    unknown += is_unknown;
    too_large += is_known && label[i] >= in.classes;
    s.active[i] = (is_known && label[i] < in.classes) || (is_unknown && uses_ood);
  }
  if (counts != nullptr) {
    counts[0] += known;
    counts[1] += unknown;
  }
  for (std::int64_t i = 0; too_large > 0 && i < n; ++i)
    if (label[i] >= in.classes && (!ignoring || label[i] != ignored)) return begin + i;
  return -1;
}

// A block in the layout of its logits, for the kernels.
template <class F>
struct KernelBlock {
  bool columns;
  kernels::Rows<F> by_rows;
  kernels::Columns<F> by_columns;

  KernelBlock(const Input<F>& in, const Block& b, const Scratch<F>& s) {
    const Layout& l = in.logits.layout;
    const F* scale = in.entry.row.scaled ? s.scale.data() : nullptr;
    columns = l.columns;
    by_rows = {in.data + b.offset, b.n, l.classes, l.sample_stride, s.active.data(), scale};
    by_columns = {in.data + b.offset, b.n, l.classes, l.class_stride, s.active.data(), scale};
  }
  void square_norms(F* out) const {
    columns ? kernels::column_square_norms(by_columns, out)
            : kernels::row_square_norms(by_rows, out);
  }
  void statistics(const kernels::RowStatistics<F>& out) const {
    columns ? kernels::column_statistics(by_columns, out) : kernels::row_statistics(by_rows, out);
  }
  void gradient(const kernels::RowCoefficients<F>& c, F* grad, const Layout& to) const {
    columns ? kernels::column_gradient(by_columns, c, grad, to.class_stride)
            : kernels::row_gradient(by_rows, c, grad, to.sample_stride);
  }
};

template <class F>
void compute_scale(const Input<F>& in, std::int64_t n, const F* sqnorm, Scratch<F>& s) {
  if (in.entry.row.scaled)
    Typed<F>::scale(in.entry.row)(in.args.parameters.data(), n, sqnorm, s.scale.data());
}

// The logit of the label, relative to the maximum and scaled; 0 for rows without one.
template <class F>
void gather_target(const Input<F>& in, const Block& block, const Scratch<F>& s, const F* max,
                   F* target_logit) {
  const Layout& l = in.logits.layout;
  const bool scaled = in.entry.row.scaled;
  for (std::int64_t i = 0; i < block.n; ++i) {
    const std::int64_t label = in.target[block.begin + i];
    const bool has = s.active[i] && label >= 0;
    const F x =
        has ? in.data[block.offset + i * l.sample_stride + label * l.class_stride] - max[i] : F{0};
    target_logit[i] = scaled ? s.scale[i] * x : x;
  }
}

// The formula's view of a block; `statistics` is the saved tensor [S, rows].
template <class F>
RowBlock<F> formula_block(const Input<F>& in, const Block& block, Scratch<F>& s,
                          const F* statistics) {
  const StatisticsLayout layout(in.entry.row);
  const auto at = [&](int row) -> const F* {
    return row < 0 ? nullptr : statistics + row * in.rows + block.begin;
  };
  const F* max = at(0);
  const bool scaled = in.entry.row.scaled;
  for (std::int64_t i = 0; scaled && i < block.n; ++i) s.scaled_max[i] = s.scale[i] * max[i];
  return {.rows = block.n,
          .classes = in.classes,
          .target = in.target + block.begin,
          .active = s.active.data(),
          .max = scaled ? s.scaled_max.data() : max,
          .log_sum = at(1),
          .mean = at(layout.mean),
          .expected = at(layout.expected),
          .sqnorm = at(layout.sqnorm),
          .target_logit = at(layout.target),
          .weight = in.weight == nullptr ? nullptr : in.weight + block.begin,
          .extras = in.extras == nullptr ? nullptr : in.extras + block.begin,
          .extra_stride = in.rows};
}

template <class F>
ForwardParts forward(const ObjectiveEntry& entry, const RowTermsArguments& a) {
  const Input<F> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
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
  const std::int64_t blocks = in.blocks.count;
  std::vector<Partial> partial(static_cast<std::size_t>(blocks));
  std::vector<double> sums(static_cast<std::size_t>(blocks * 2 * terms), 0.0);
  F* const statistics = out.statistics.mutable_data_ptr<F>();

  for_each_block(in.blocks, [&](std::int64_t b, const Block& block) {
    Scratch<F> s;
    partial[b].bad = mark_active(in, block.begin, block.n, s, partial[b].counts);
    const auto at = [&](int row) {
      return row < 0 ? nullptr : statistics + row * in.rows + block.begin;
    };
    if (layout.sqnorm >= 0) KernelBlock<F>(in, block, s).square_norms(at(layout.sqnorm));
    compute_scale(in, block.n, at(layout.sqnorm), s);
    KernelBlock<F>(in, block, s).statistics({at(0), at(1), at(layout.mean), at(layout.expected)});
    if (layout.target >= 0) gather_target(in, block, s, at(0), at(layout.target));
    Typed<F>::forward(entry.row)(
        a.parameters.data(), formula_block(in, block, s, statistics),
        ForwardResult<F>{sums.data() + b * 2 * terms,
                         per_row == nullptr ? nullptr : per_row + block.begin, in.rows});
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
  out.logits = empty_like_layout(a.logits);
  const Layout to_layout = lay_out(out.logits).layout;
  F* const to = out.logits.mutable_data_ptr<F>();
  F *extras = nullptr, *weight = nullptr;
  if (want_extras && in.extras != nullptr) {
    out.extras = at::empty(a.extras->sizes(), a.logits.options());
    extras = out.extras.mutable_data_ptr<F>();
  }
  if (want_weight && in.weight != nullptr) {
    out.weight = at::empty(a.target.sizes(), a.logits.options());
    weight = out.weight.mutable_data_ptr<F>();
  }

  const Blocks to_blocks(to_layout, sizeof(F));
  for_each_block(in.blocks, [&](std::int64_t b, const Block& block) {
    Scratch<F> s;
    mark_active(in, block.begin, block.n, s, nullptr);
    compute_scale(in, block.n,
                  layout.sqnorm < 0 ? nullptr : saved + layout.sqnorm * in.rows + block.begin, s);
    Typed<F>::backward(entry.row)(
        a.parameters.data(), formula_block(in, block, s, saved),
        Upstream<F>{a.per_row ? up + block.begin : up, in.rows, a.per_row},
        BackwardResult<F>{s.a.data(), s.b.data(), s.c.data(), s.d.data(),
                          weight == nullptr ? nullptr : weight + block.begin,
                          extras == nullptr ? nullptr : extras + block.begin, in.rows});
    F* const grad = to + Block(to_blocks, b).offset;
    KernelBlock<F>(in, block, s)
        .gradient({saved + block.begin, saved + in.rows + block.begin, s.a.data(), s.b.data(),
                   entry.row.needs_input ? s.d.data() : nullptr},
                  grad, to_layout);
    for (std::int64_t i = 0; i < block.n; ++i) {
      const std::int64_t label = in.target[block.begin + i];
      if (s.active[i] && label >= 0)
        grad[i * to_layout.sample_stride + label * to_layout.class_stride] += s.c[i];
    }
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
