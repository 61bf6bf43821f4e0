#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ood/formula/formula.h"
#include "ood/kernels/labels.h"

/// Evaluates a formula on a block of rows whose statistics are known, and turns upstream gradients
/// into the coefficients of the row gradient a p + b + c onehot(y) + d x.
namespace ood {

/// A block of rows, structure of arrays. A pointer whose statistic the formula does not use may be
/// null. The statistics are relative to the row's maximum, see kernels/row.h; but `max` is that of
/// the scaled row.
template <class F>
struct RowBlock {
  std::int64_t rows;
  std::int64_t classes;
  const std::int32_t* label;  ///< class; kNoClass: OOD; kNoPart: the row takes no part
  const F *max, *log_sum, *mean, *expected, *sqnorm;
  const F* target_logit;  ///< w[y] - max, for ID rows
  const F* weight;        ///< nullptr: 1
  const F* extras;        ///< extra e of row i at extras[e * extra_stride + i]
  std::int64_t extra_stride;
};

template <class F>
struct ForwardResult {
  double* sums;  ///< [2, T], added to: ID, OOD
  F* per_row;    ///< term t of row i at per_row[t * stride + i]; nullptr: not wanted
  std::int64_t stride;
};

/// Upstream gradient: per row, or one a population and term.
template <class F>
struct Upstream {
  const F* values;
  std::int64_t stride;  ///< per row: of a term
  bool per_row;
};

template <class F>
struct BackwardResult {
  F *a, *b, *c, *d;  ///< d is null where the formula needs none
  F* weight;         ///< gradients of the further inputs; nullptr: not wanted
  F* extras;
  std::int64_t extra_stride;
  double* sums;  ///< as in ForwardResult; nullptr: not wanted
};

/// Whether the gradient of a row has a part proportional to the row itself.
template <class Formula>
constexpr bool needs_input() {
  return ScaledFormula<Formula> || (Formula::kUses & kSquareNorm) != 0;
}

/// Sets the member of a parameter, of whatever kind it is.
template <class Formula>
void set_parameter(Formula& formula, const Parameter<Formula>& p, double value) {
  std::visit(
      [&](auto member) {
        formula.*member = static_cast<std::remove_reference_t<decltype(formula.*member)>>(value);
      },
      p.member);
}

template <class Formula>
Formula with_parameters(const double* values) {
  Formula f;
  std::size_t i = 0;
  for (const auto& p : Formula::kParameters) set_parameter(f, p, values[i++]);
  return f;
}

inline constexpr int kLanes = 8;

/// Up to kLanes rows of a block, side by side. Lanes past the end are rows that take no part.
template <class Formula, class F>
struct RowGroup {
  using L = Lanes<F, kLanes>;
  using Mask = LanesMask<F, kLanes>;

  const RowBlock<F>& block;
  std::int64_t first;
  int count;
  Mask known, active;

  OOD_INLINE RowGroup(const RowBlock<F>& b, std::int64_t i)
      : block(b), first(i), count(static_cast<int>(std::min<std::int64_t>(kLanes, b.rows - i))) {
    typedef std::int32_t Labels __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
    Labels label = Labels{} + kernels::kNoPart;
    if (count == kLanes)
      __builtin_memcpy(&label, block.label + i, sizeof(label));
    else
      std::memcpy(&label, block.label + i, static_cast<std::size_t>(count) * sizeof(std::int32_t));
    known.v = __builtin_convertvector(label >= 0, typename Mask::Bits);
    active.v = __builtin_convertvector(label != kernels::kNoPart, typename Mask::Bits);
  }

  OOD_INLINE L load(const F* from) const {
    if (count == kLanes) return L::load(from + first);
    L out(0.0);
    for (int k = 0; k < count; ++k) out.v[k] = from[first + k];
    return out;
  }
  OOD_INLINE void store(F* to, const L& values) const {
    if (count == kLanes) return values.store(to + first);
    for (int k = 0; k < count; ++k) to[first + k] = values.v[k];
  }
  OOD_INLINE L weight() const { return block.weight == nullptr ? L(1.0) : load(block.weight); }

  /// The formula's terms for these rows, with partials where V > 0.
  template <int V>
  OOD_INLINE auto evaluate(const Formula& formula) const {
    constexpr unsigned kUses = Formula::kUses;
    DualRow<Formula, L, V> row{};
    const L zero(0.0);
    if constexpr ((kUses & kNll) != 0)
      row.nll_value = choose(known, load(block.log_sum) - load(block.target_logit), zero);
    if constexpr ((kUses & kUniformNll) != 0)
      row.uniform_nll_value = load(block.log_sum) - load(block.mean);
    if constexpr ((kUses & kLogSumExp) != 0) row.lse_value = load(block.max) + load(block.log_sum);
    if constexpr ((kUses & kSquareNorm) != 0) row.sqnorm_value = load(block.sqnorm);
    if constexpr ((kUses & kTarget) != 0)
      row.target_value = choose(known, load(block.max) + load(block.target_logit), zero);
    for (std::size_t e = 0; e < row.extras.size(); ++e)
      row.extras[e] = load(block.extras + static_cast<std::int64_t>(e) * block.extra_stride);
    return formula(row, known);
  }
};

/// Sums of terms by population. A lane sums its own rows; only at the end are lanes added up, since
/// an addition that waits for the last one is what a loop over rows would spend its time on.
template <std::size_t kTerms>
struct PopulationSums {
  using Sums = Lanes<double, kLanes>;
  std::array<Sums, kTerms> id, ood;

  OOD_INLINE PopulationSums() {
    id.fill(Sums(0.0));
    ood.fill(Sums(0.0));
  }
  template <class L, class Mask>
  OOD_INLINE void add(std::size_t t, const Mask& known, const L& term) {
    const auto of_known = choose(known, term, L(0.0)), of_others = choose(known, L(0.0), term);
    id[t].v += __builtin_convertvector(of_known.v, typename Sums::Numbers);
    ood[t].v += __builtin_convertvector(of_others.v, typename Sums::Numbers);
  }
  OOD_INLINE void add_to(double* sums) const {
    for (std::size_t t = 0; t < kTerms; ++t)
      for (int k = 0; k < kLanes; ++k) {
        sums[t] += id[t].v[k];
        sums[kTerms + t] += ood[t].v[k];
      }
  }
};

template <class Formula, class F>
OOD_INLINE void evaluate_forward(const double* parameters, const RowBlock<F>& block,
                                 const ForwardResult<F>& out) {
  using L = Lanes<F, kLanes>;
  const auto formula = with_parameters<Formula>(parameters);
  constexpr std::size_t kTerms = Formula::kTerms.size();
  PopulationSums<kTerms> sums;
  for (std::int64_t i = 0; i < block.rows; i += kLanes) {
    const RowGroup<Formula, F> rows(block, i);
    const auto values = rows.template evaluate<0>(formula);
    const L weight = rows.weight();
    for (std::size_t t = 0; t < kTerms; ++t) {
      const L term = choose(rows.active, weight * values[t].value, L(0.0));
      sums.add(t, rows.known, term);
      if (out.per_row != nullptr)
        rows.store(out.per_row + static_cast<std::int64_t>(t) * out.stride, term);
    }
  }
  sums.add_to(out.sums);
}

/// The rows' coefficients from the derivatives g of the loss by the formula's variables.
///
///   d nll / dw = p - e_y      d uniform_nll / dw = p - 1/C      d lse / dw = p
///   d target / dw = e_y       d sqnorm / dx = 2 x
///
/// and for a scaled row w = k(||x||^2) x:  dx = k dw + 2 k'(||x||^2) (dw . x) x.
template <class Formula, class F, class Partials>
OOD_INLINE void row_coefficients(const Formula& formula, const RowGroup<Formula, F>& rows,
                                 const Partials& g, const BackwardResult<F>& out) {
  using L = Lanes<F, kLanes>;
  constexpr unsigned kUses = Formula::kUses;
  const RowBlock<F>& block = rows.block;
  const L zero(0.0);
  L nll = zero, uniform = zero, lse = zero, sqnorm = zero, target = zero;
  if constexpr ((kUses & kNll) != 0)
    nll = choose(rows.known, g[variable_index<Formula>(kNll)], zero);
  if constexpr ((kUses & kUniformNll) != 0) uniform = g[variable_index<Formula>(kUniformNll)];
  if constexpr ((kUses & kLogSumExp) != 0) lse = g[variable_index<Formula>(kLogSumExp)];
  if constexpr ((kUses & kSquareNorm) != 0) sqnorm = g[variable_index<Formula>(kSquareNorm)];
  if constexpr ((kUses & kTarget) != 0)
    target = choose(rows.known, g[variable_index<Formula>(kTarget)], zero);

  L a = nll + uniform + lse, b = -uniform / L(static_cast<double>(block.classes)), c = target - nll;
  L input = L(2.0) * sqnorm;
  if constexpr (ScaledFormula<Formula>) {
    const auto scale = formula.scale(Dual<L, 1>::variable(rows.load(block.sqnorm), 0));
    const L k = scale.value;
    L inner = zero;  // dw . w, where sum p w = max + expected
    if constexpr ((kUses & (kNll | kTarget)) != 0) {
      const L target_logit = rows.load(block.target_logit);
      inner += nll * (rows.load(block.expected) - target_logit);
      inner += target * (rows.load(block.max) + target_logit);
    }
    if constexpr ((kUses & kUniformNll) != 0)
      inner += uniform * (rows.load(block.expected) - rows.load(block.mean));
    if constexpr ((kUses & kLogSumExp) != 0)
      inner += lse * (rows.load(block.max) + rows.load(block.expected));
    input += choose(k == zero, zero, L(2.0) * scale.partial[0] * inner / k);
    a *= k;
    b *= k;
    c *= k;
  }
  const auto store = [&](F * to, const L& v) __attribute__((always_inline)) {
    rows.store(to, choose(rows.active, v, zero));
  };
  store(out.a, a);
  store(out.b, b);
  store(out.c, c);
  if constexpr (needs_input<Formula>()) store(out.d, input);
}

template <class Formula, class F>
OOD_INLINE void evaluate_backward(const double* parameters, const RowBlock<F>& block,
                                  const Upstream<F>& upstream, const BackwardResult<F>& out) {
  using L = Lanes<F, kLanes>;
  const auto formula = with_parameters<Formula>(parameters);
  constexpr std::size_t kTerms = Formula::kTerms.size();
  constexpr int kExtras = extra_count<Formula>();
  constexpr int kVariables = statistic_count<Formula>() + kExtras;
  PopulationSums<kTerms> sums;
  for (std::int64_t i = 0; i < block.rows; i += kLanes) {
    const RowGroup<Formula, F> rows(block, i);
    const auto values = rows.template evaluate<kVariables>(formula);
    Dual<L, kVariables> loss;
    for (std::size_t t = 0; t < kTerms; ++t) {
      const L g = upstream.per_row
                      ? rows.load(upstream.values + static_cast<std::int64_t>(t) * upstream.stride)
                      : choose(rows.known, L(upstream.values[t]), L(upstream.values[kTerms + t]));
      loss.value += g * values[t].value;
      for (std::size_t v = 0; v < loss.partial.size(); ++v)
        loss.partial[v] += g * values[t].partial[v];
    }
    const L weight = rows.weight(), zero(0.0);
    if (out.sums != nullptr)
      for (std::size_t t = 0; t < kTerms; ++t)
        sums.add(t, rows.known, choose(rows.active, weight * values[t].value, zero));
    for (L& p : loss.partial) p *= weight;
    row_coefficients(formula, rows, loss.partial, out);
    if (out.weight != nullptr) rows.store(out.weight, choose(rows.active, loss.value, zero));
    if (out.extras != nullptr)
      for (int e = 0; e < kExtras; ++e)
        rows.store(
            out.extras + e * out.extra_stride,
            choose(rows.active,
                   loss.partial[static_cast<std::size_t>(statistic_count<Formula>() + e)], zero));
  }
  if (out.sums != nullptr) sums.add_to(out.sums);
}

/// scale[i] = formula.scale(sqnorm[i]).
template <class Formula, class F>
void evaluate_scale(const double* parameters, std::int64_t rows, const F* sqnorm, F* scale) {
  const auto formula = with_parameters<Formula>(parameters);
  for (std::int64_t i = 0; i < rows; ++i) scale[i] = formula.scale(Dual<F, 0>(sqnorm[i])).value;
}

}  // namespace ood
