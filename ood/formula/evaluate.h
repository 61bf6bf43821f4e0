#pragma once

#include <cstddef>
#include <cstdint>

#include "ood/formula/formula.h"

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
  const std::int64_t* target;  ///< < 0 is OOD
  const std::uint8_t* active;  ///< 0: the row takes no part
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
};

/// Whether the gradient of a row has a part proportional to the row itself.
template <class Formula>
constexpr bool needs_input() {
  return ScaledFormula<Formula> || (Formula::kUses & kSquareNorm) != 0;
}

template <class Formula>
Formula with_parameters(const double* values) {
  Formula f;
  std::size_t i = 0;
  for (const auto& p : Formula::kParameters) f.*p.member = values[i++];
  return f;
}

template <class Formula, class F, int V>
auto evaluate_row(const Formula& formula, const RowBlock<F>& block, std::int64_t i) {
  const bool known = block.target[i] >= 0;
  DualRow<Formula, F, V> row{};
  if constexpr ((Formula::kUses & kNll) != 0)
    row.nll_value = known ? block.log_sum[i] - block.target_logit[i] : F{0};
  if constexpr ((Formula::kUses & kUniformNll) != 0)
    row.uniform_nll_value = block.log_sum[i] - block.mean[i];
  if constexpr ((Formula::kUses & kLogSumExp) != 0) row.lse_value = block.max[i] + block.log_sum[i];
  if constexpr ((Formula::kUses & kSquareNorm) != 0) row.sqnorm_value = block.sqnorm[i];
  row.extras = block.extras + i;
  row.extra_stride = block.extra_stride;
  return formula(row, known);
}

template <class Formula, class F>
void evaluate_forward(const double* parameters, const RowBlock<F>& block,
                      const ForwardResult<F>& out) {
  const auto formula = with_parameters<Formula>(parameters);
  constexpr std::size_t kTerms = Formula::kTerms.size();
  for (std::int64_t i = 0; i < block.rows; ++i) {
    if (!block.active[i]) {
      if (out.per_row != nullptr)
        for (std::size_t t = 0; t < kTerms; ++t) out.per_row[t * out.stride + i] = F{0};
      continue;
    }
    const auto values = evaluate_row<Formula, F, 0>(formula, block, i);
    const F weight = block.weight == nullptr ? F{1} : block.weight[i];
    double* sums = out.sums + (block.target[i] >= 0 ? 0 : kTerms);
    for (std::size_t t = 0; t < kTerms; ++t) {
      const F term = weight * values[t].value;
      sums[t] += term;
      if (out.per_row != nullptr) out.per_row[t * out.stride + i] = term;
    }
  }
}

/// The row's coefficients from the derivatives g of the loss by the formula's variables.
///
///   d nll / dw = p - e_y     d uniform_nll / dw = p - 1/C     d lse / dw = p     d sqnorm / dx = 2
///   x
///
/// and for a scaled row w = k(||x||^2) x:  dx = k dw + 2 k'(||x||^2) (dw . x) x.
template <class Formula, class F, class Partials>
void row_coefficients(const Formula& formula, const RowBlock<F>& block, std::int64_t i,
                      const Partials& g, const BackwardResult<F>& out) {
  constexpr unsigned kUses = Formula::kUses;
  F nll{}, uniform{}, lse{}, sqnorm{};
  if constexpr ((kUses & kNll) != 0)
    nll = block.target[i] >= 0 ? g[variable_index<Formula>(kNll)] : F{0};
  if constexpr ((kUses & kUniformNll) != 0) uniform = g[variable_index<Formula>(kUniformNll)];
  if constexpr ((kUses & kLogSumExp) != 0) lse = g[variable_index<Formula>(kLogSumExp)];
  if constexpr ((kUses & kSquareNorm) != 0) sqnorm = g[variable_index<Formula>(kSquareNorm)];

  F k{1}, input = F{2} * sqnorm;
  if constexpr (ScaledFormula<Formula>) {
    const auto scale = formula.scale(Dual<F, 1>::variable(block.sqnorm[i], 0));
    k = scale.value;
    F inner{};  // dw . w, where sum p w = max + expected
    if constexpr ((kUses & kNll) != 0) inner += nll * (block.expected[i] - block.target_logit[i]);
    if constexpr ((kUses & kUniformNll) != 0)
      inner += uniform * (block.expected[i] - block.mean[i]);
    if constexpr ((kUses & kLogSumExp) != 0) inner += lse * (block.max[i] + block.expected[i]);
    if (k != F{0}) input += F{2} * scale.partial[0] * inner / k;
  }
  out.a[i] = k * (nll + uniform + lse);
  out.b[i] = -k * uniform / static_cast<F>(block.classes);
  out.c[i] = -k * nll;
  if constexpr (needs_input<Formula>()) out.d[i] = input;
}

template <class Formula, class F>
void evaluate_backward(const double* parameters, const RowBlock<F>& block,
                       const Upstream<F>& upstream, const BackwardResult<F>& out) {
  const auto formula = with_parameters<Formula>(parameters);
  constexpr std::size_t kTerms = Formula::kTerms.size();
  constexpr int kExtras = extra_count<Formula>();
  constexpr int kVariables = statistic_count<Formula>() + kExtras;
  for (std::int64_t i = 0; i < block.rows; ++i) {
    if (!block.active[i]) {
      out.a[i] = out.b[i] = out.c[i] = F{0};
      if constexpr (needs_input<Formula>()) out.d[i] = F{0};
      if (out.weight != nullptr) out.weight[i] = F{0};
      if (out.extras != nullptr)
        for (int e = 0; e < kExtras; ++e) out.extras[e * out.extra_stride + i] = F{0};
      continue;
    }
    const auto values = evaluate_row<Formula, F, kVariables>(formula, block, i);
    Dual<F, kVariables> loss;
    for (std::size_t t = 0; t < kTerms; ++t) {
      const F g = upstream.per_row ? upstream.values[t * upstream.stride + i]
                                   : upstream.values[t + (block.target[i] >= 0 ? 0 : kTerms)];
      loss.value += g * values[t].value;
      for (std::size_t v = 0; v < loss.partial.size(); ++v)
        loss.partial[v] += g * values[t].partial[v];
    }
    const F weight = block.weight == nullptr ? F{1} : block.weight[i];
    for (F& p : loss.partial) p *= weight;
    row_coefficients(formula, block, i, loss.partial, out);
    if (out.weight != nullptr) out.weight[i] = loss.value;
    if (out.extras != nullptr)
      for (int e = 0; e < kExtras; ++e)
        out.extras[e * out.extra_stride + i] =
            loss.partial[static_cast<std::size_t>(statistic_count<Formula>() + e)];
  }
}

/// scale[i] = formula.scale(sqnorm[i]).
template <class Formula, class F>
void evaluate_scale(const double* parameters, std::int64_t rows, const F* sqnorm, F* scale) {
  const auto formula = with_parameters<Formula>(parameters);
  for (std::int64_t i = 0; i < rows; ++i) scale[i] = formula.scale(Dual<F, 0>(sqnorm[i])).value;
}

}  // namespace ood
