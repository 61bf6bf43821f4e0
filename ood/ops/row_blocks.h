#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "ood/kernels/columns.h"
#include "ood/kernels/half.h"
#include "ood/kernels/labels.h"
#include "ood/kernels/simd_level.h"
#include "ood/kernels/transpose.h"
#include "ood/ops/layout.h"
#include "ood/ops/row_terms.h"

/// What the fused CPU ops share: a batch cut into blocks that fit the cache, and a block's way
/// through the kernels.
namespace ood::ops {

inline constexpr std::int64_t kBlockBytes = 256 * 1024;
inline constexpr std::int64_t kMaxBlockRows = 256;
/// Rows of up to so many numbers are turned round, a lane a row, in blocks for the first cache.
inline constexpr std::int64_t kFewClasses = 32;
inline constexpr std::int64_t kTurnedBytes = 16 * 1024;
inline constexpr std::int64_t kGrain = 16 * 1024;  // numbers below which a second thread costs more

/// What numbers of type S are computed in.
template <class S>
using Computing = std::conditional_t<std::is_same_v<S, double>, double, float>;

/// The evaluator of a formula for the instruction set in use.
template <class F>
const FormulaEvaluator<F>& evaluator(const FormulaEntry& e) {
  if constexpr (std::is_same_v<F, double>) {
    return e.f64;
  } else {
    const auto level = kernels::simd_level();
    return e.f32[level == kernels::SimdLevel::kAvx2 || level == kernels::SimdLevel::kAvx512];
  }
}

/// The samples of an image in blocks. They do not depend on the number of threads, so that neither
/// do results.
struct Blocks {
  Layout layout;
  std::int64_t per_block, per_image, count;

  Blocks(const Layout& l, std::size_t element)
      : layout(l),
        per_block(std::clamp<std::int64_t>((turned() ? kTurnedBytes : kBlockBytes) /
                                               (l.classes * static_cast<std::int64_t>(element)),
                                           1, kMaxBlockRows)),
        per_image((l.inner + per_block - 1) / per_block),
        count(l.outer * per_image) {}

  /// Whether rows go through the kernels as columns.
  bool turned() const { return !layout.columns && layout.classes <= kFewClasses; }
};

/// Block b: `n` samples from `begin` on, in the order of the target; the first one's class 0 lies
/// at `offset`.
struct Block {
  std::int64_t begin, n, offset;

  Block(const Blocks& all, std::int64_t b) {
    const std::int64_t image = b / all.per_image, start = b % all.per_image * all.per_block;
    begin = image * all.layout.inner + start;
    n = std::min(all.per_block, all.layout.inner - start);
    offset = image * all.layout.outer_stride + start * all.layout.sample_stride;
  }
};

/// Everything a call reads, as pointers. S: type of the logits.
template <class S>
struct Input {
  using F = Computing<S>;

  const ObjectiveEntry& entry;
  const RowTermsArguments& args;
  LaidOut logits;
  at::Tensor target_owner, extras_owner, weight_owner;
  Blocks blocks;
  std::int64_t rows, classes;
  const S* data;
  const std::int64_t* target;
  const F* extras = nullptr;
  const F* weight = nullptr;

  Input(const ObjectiveEntry& e, const RowTermsArguments& a)
      : entry(e),
        args(a),
        logits(lay_out(a.logits)),
        target_owner(a.target.contiguous()),
        blocks(logits.layout, sizeof(F)),
        rows(logits.layout.samples()),
        classes(logits.layout.classes) {
    data = logits.owner.const_data_ptr<S>();
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

  kernels::Labels labels(std::int64_t begin, std::int64_t n) const {
    return {target + begin, n, classes, args.ignore_index.has_value(),
            args.ignore_index.value_or(0)};
  }
  /// What OOD rows are to the formula.
  std::int32_t outlier() const {
    if (entry.ood_is_last_class) return static_cast<std::int32_t>(classes - 1);
    return entry.uses_ood ? kernels::kNoClass : kernels::kNoPart;
  }
};

/// Numbers of ID and OOD rows. A label that is no class is an error that names its row.
template <class S>
std::array<std::int64_t, 2> count_rows(const Input<S>& in) {
  constexpr std::int64_t kChunk = 64 * 1024;
  const std::int64_t chunks = (in.rows + kChunk - 1) / kChunk;
  std::vector<kernels::LabelCounts> counts(static_cast<std::size_t>(chunks));
  const auto count = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c)
      counts[static_cast<std::size_t>(c)] =
          kernels::count_labels(in.labels(c * kChunk, std::min(kChunk, in.rows - c * kChunk)));
  };
  at::parallel_for(0, chunks, 1, count);
  kernels::LabelCounts sum;
  for (const auto& c : counts) {
    sum.known += c.known;
    sum.unknown += c.unknown;
    sum.too_large += c.too_large;
  }
  for (std::int64_t i = 0; sum.too_large > 0 && i < in.rows; ++i)
    TORCH_CHECK_INDEX(kernels::count_labels(in.labels(i, 1)).too_large == 0, in.entry.name,
                      ": expected labels below the number of classes ", in.classes, ", got ",
                      in.target[i], " in row ", i);
  if (in.entry.ood_is_last_class) return {sum.known + sum.unknown, 0};
  return {sum.known, sum.unknown};
}

/// Where the statistics of a block's rows lie; null where the formula needs none.
template <class F>
struct BlockStatistics {
  F *max, *log_sum, *mean, *expected, *sqnorm, *target;
};

/// What a thread needs for the block it works on.
template <class F>
struct Scratch {
  using Row = std::array<F, kMaxBlockRows>;
  std::array<std::int32_t, kMaxBlockRows> label;
  Row scale, scaled_max, a, b, c, d;
  std::array<Row, 6> statistics;
  std::vector<F> logits, gradient;                             ///< of half types, in computing type
  std::vector<F> exp;                                          ///< of a block of columns
  alignas(64) std::array<F, kTurnedBytes / sizeof(F)> turned;  ///< rows as columns

  BlockStatistics<F> own_statistics(const StatisticsLayout& layout) {
    const auto at = [&](int row) {
      return row < 0 ? nullptr : statistics[static_cast<std::size_t>(row)].data();
    };
    return {
        at(0), at(1), at(layout.mean), at(layout.expected), at(layout.sqnorm), at(layout.target)};
  }
};

/// A block's numbers: number c of sample i at data[i * sample_stride + c * class_stride].
template <class T>
struct Numbers {
  T* data;
  std::int64_t n, classes, sample_stride, class_stride;
  bool columns;
};

template <class S>
constexpr kernels::HalfType half_type() {
  return std::is_same_v<S, at::Half> ? kernels::HalfType::kFloat16 : kernels::HalfType::kBFloat16;
}
template <class S>
void convert(const S* from, std::int64_t n, float* to) {
  kernels::widen(half_type<S>(), reinterpret_cast<const std::uint16_t*>(from), n, to);
}
template <class S>
void convert(const float* from, std::int64_t n, S* to) {
  kernels::narrow(half_type<S>(), from, n, reinterpret_cast<std::uint16_t*>(to));
}

/// Of half types, from or to the type they are computed in.
template <class From, class To>
void convert(const Numbers<From>& from, const Numbers<To>& to) {
  const bool columns = from.columns;
  const std::int64_t outer = columns ? from.classes : from.n,
                     inner = columns ? from.n : from.classes;
  const std::int64_t from_stride = columns ? from.class_stride : from.sample_stride;
  const std::int64_t to_stride = columns ? to.class_stride : to.sample_stride;
  if (from_stride == inner && to_stride == inner) return convert(from.data, outer * inner, to.data);
  for (std::int64_t i = 0; i < outer; ++i)
    convert(from.data + i * from_stride, inner, to.data + i * to_stride);
}

/// Room in `buffer` for a block of the shape of `like`.
template <class F, class T>
Numbers<F> make_room(std::vector<F>& buffer, const Numbers<T>& like) {
  buffer.resize(static_cast<std::size_t>(like.n * like.classes));
  return {buffer.data(),
          like.n,
          like.classes,
          like.columns ? 1 : like.classes,
          like.columns ? like.n : 1,
          like.columns};
}

/// A block on its way: the kernels on the logits of the block in the layout they have.
template <class S>
class BlockPass {
 public:
  using F = Computing<S>;

  BlockPass(const Input<S>& in, const Block& block, Scratch<F>& scratch)
      : in_(in), block_(block), s_(scratch) {
    const Layout& l = in.logits.layout;
    const Numbers<const S> stored{in.data + block.offset, block.n,        l.classes,
                                  l.sample_stride,        l.class_stride, l.columns};
    if constexpr (std::is_same_v<S, F>) {
      x_ = stored;
    } else {
      const Numbers<F> room = make_room(s_.logits, stored);
      convert(stored, room);
      x_ = {room.data, room.n, room.classes, room.sample_stride, room.class_stride, room.columns};
      copy_ = room.data;
    }
    if (in.blocks.turned()) {
      F* columns = s_.turned.data();
      kernels::rows_to_columns(x_.data, x_.n, x_.classes, x_.sample_stride, columns, x_.n);
      x_ = {columns, x_.n, x_.classes, 1, x_.n, true};
      copy_ = columns;
    }
    no_class_ = kernels::mark_rows(in.labels(block.begin, block.n), in.outlier(), s_.label.data());
  }

  /// Whether a label of the block is no class; its row takes no part then.
  bool has_label_of_no_class() const { return no_class_; }

  /// Fills `to`. `gradient`: where the gradient will be, or nullptr where none is wanted.
  void statistics(const BlockStatistics<F>& to, const Numbers<F>* gradient) {
    if (to.sqnorm != nullptr)
      x_.columns ? kernels::column_square_norms(columns(), to.sqnorm)
                 : kernels::row_square_norms(rows(), to.sqnorm);
    compute_scale(to.sqnorm);
    kernels::RowStatistics<F> out{to.max, to.log_sum, to.mean, to.expected, to.target};
    if (x_.columns) {
      if (copy_ != nullptr && !in_.entry.row.needs_input) {
        exp_ = copy_;
        exp_stride_ = x_.class_stride;
      } else {
        const Numbers<F> room = make_room(s_.exp, x_);
        exp_ = room.data;
        exp_stride_ = room.class_stride;
      }
    } else if (gradient != nullptr) {
      exp_ = gradient->data;
      exp_stride_ = gradient->sample_stride;
    }
    out.exp = exp_;
    out.exp_stride = exp_stride_;
    x_.columns ? kernels::column_statistics(columns(), out) : kernels::row_statistics(rows(), out);
  }

  void compute_scale(const F* sqnorm) {
    if (!in_.entry.row.scaled) return;
    const auto scale = [&] {
      if constexpr (std::is_same_v<F, double>)
        return in_.entry.row.scale_f64;
      else
        return in_.entry.row.scale_f32;
    }();
    scale(in_.args.parameters.data(), block_.n, sqnorm, s_.scale.data());
  }

  /// The formula's view of the block.
  RowBlock<F> formula(const BlockStatistics<F>& from) {
    const bool scaled = in_.entry.row.scaled;
    for (std::int64_t i = 0; scaled && i < block_.n; ++i)
      s_.scaled_max[i] = s_.scale[i] * from.max[i];
    return {.rows = block_.n,
            .classes = in_.classes,
            .label = s_.label.data(),
            .max = scaled ? s_.scaled_max.data() : from.max,
            .log_sum = from.log_sum,
            .mean = from.mean,
            .expected = from.expected,
            .sqnorm = from.sqnorm,
            .target_logit = from.target,
            .weight = in_.weight == nullptr ? nullptr : in_.weight + block_.begin,
            .extras = in_.extras == nullptr ? nullptr : in_.extras + block_.begin,
            .extra_stride = in_.rows};
  }

  /// The coefficients a, b, c, d of the rows, in the scratch; gradients of the further inputs and
  /// sums where they are wanted.
  void coefficients(const BlockStatistics<F>& from, const Upstream<F>& upstream, F* weight,
                    F* extras, double* sums) {
    evaluator<F>(in_.entry.row)
        .backward(in_.args.parameters.data(), formula(from), upstream,
                  {s_.a.data(), s_.b.data(), s_.c.data(), s_.d.data(),
                   weight == nullptr ? nullptr : weight + block_.begin,
                   extras == nullptr ? nullptr : extras + block_.begin, in_.rows, sums});
  }

  /// Where the gradient of the block is computed: `stored` itself, or scratch for half types.
  Numbers<F> gradient_room(const Numbers<S>& stored) {
    if constexpr (std::is_same_v<S, F>)
      return stored;
    else
      return make_room(s_.gradient, stored);
  }

  /// After statistics() it starts from what that computed.
  void gradient(const BlockStatistics<F>& from, const Numbers<F>& room, const Numbers<S>& stored) {
    const F* d = in_.entry.row.needs_input ? s_.d.data() : nullptr;
    const kernels::RowCoefficients<F> k{from.max, from.log_sum, s_.a.data(), s_.b.data(),
                                        d,        s_.c.data(),  exp_,        exp_stride_};
    if (in_.blocks.turned()) {
      // Over what it is computed from.
      F* at = exp_ != nullptr ? exp_ : copy_;
      kernels::column_gradient(columns(), k, at, x_.class_stride);
      kernels::columns_to_rows(at, x_.n, x_.classes, x_.class_stride, room.data,
                               room.sample_stride);
    } else {
      x_.columns ? kernels::column_gradient(columns(), k, room.data, room.class_stride)
                 : kernels::row_gradient(rows(), k, room.data, room.sample_stride);
    }
    if constexpr (!std::is_same_v<S, F>) convert(room, stored);
  }

 private:
  const F* scale() const { return in_.entry.row.scaled ? s_.scale.data() : nullptr; }
  kernels::Rows<F> rows() const {
    return {x_.data, x_.n, x_.classes, x_.sample_stride, scale(), s_.label.data()};
  }
  kernels::Columns<F> columns() const {
    return {x_.data, x_.n, x_.classes, x_.class_stride, scale(), s_.label.data()};
  }

  const Input<S>& in_;
  const Block& block_;
  Scratch<F>& s_;
  Numbers<const F> x_{};
  F* copy_ = nullptr;  ///< x_, where that is a copy and may be overwritten
  F* exp_ = nullptr;
  std::int64_t exp_stride_ = 0;
  bool no_class_;
};

/// Calls body(b, block, scratch) for every block.
template <class S, class Body>
void for_each_block(const Input<S>& in, const Body& body) {
  const Blocks& blocks = in.blocks;
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / (blocks.per_block * blocks.layout.classes));
  at::parallel_for(0, blocks.count, grain, [&](std::int64_t begin, std::int64_t end) {
    Scratch<Computing<S>> scratch;
    for (std::int64_t b = begin; b < end; ++b) body(b, Block(blocks, b), scratch);
  });
}

/// The sums [2, T] of all blocks, added up in the blocks' order.
inline std::vector<double> add_up(std::vector<double> sums, std::int64_t width) {
  if (sums.size() == static_cast<std::size_t>(width)) return sums;
  std::vector<double> out(static_cast<std::size_t>(width), 0.0);
  for (std::size_t i = 0; i < sums.size(); ++i) out[i % out.size()] += sums[i];
  return out;
}

/// A gradient of the logits' type and layout that is yet to be computed, with places for those of
/// the further inputs.
template <class S>
struct Gradients {
  using F = Computing<S>;
  at::Tensor logits, extras, weight;
  Layout layout{};
  S* to_logits = nullptr;
  F *to_extras = nullptr, *to_weight = nullptr;

  Gradients(const Input<S>& in, bool want_extras, bool want_weight) {
    const auto& a = in.args;
    logits = gradient_like(a.logits);
    layout = lay_out(logits).layout;
    to_logits = logits.mutable_data_ptr<S>();
    if (want_extras && a.extras.has_value() && a.extras->defined()) {
      extras = at::empty(a.extras->sizes(), a.extras->options());
      to_extras = extras.template mutable_data_ptr<F>();
    }
    if (want_weight && a.weight.has_value() && a.weight->defined()) {
      weight = at::empty(a.target.sizes(), a.weight->options());
      to_weight = weight.template mutable_data_ptr<F>();
    }
  }

  /// The part of block b; the blocks are those of the input.
  Numbers<S> part(const Input<S>& in, std::int64_t b) const {
    Blocks blocks = in.blocks;
    blocks.layout = layout;
    const Block block(blocks, b);
    return {to_logits + block.offset, block.n,       layout.classes, layout.sample_stride,
            layout.class_stride,      layout.columns};
  }
};

/// Calls body(S{}) with the number type S of the logits.
template <class Body>
auto by_logits_type(const at::Tensor& logits, const Body& body) {
  switch (logits.scalar_type()) {
    case at::kDouble:
      return body(double{});
    case at::kHalf:
      return body(at::Half{});
    case at::kBFloat16:
      return body(at::BFloat16{});
    default:
      return body(float{});
  }
}

}  // namespace ood::ops
