#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <optional>
#include <string_view>
#include <tuple>

#include "ood/ops/row_values.h"
#include "ood/registry/registry.h"

/// The one op behind every objective that is a formula, and its parts. See docs/design.md.
namespace ood {

/// What a call of row_terms takes.
///   target   label per row; < 0 is OOD, `ignore_index` takes no part
///   extras   [E, ...target], further numbers per row that the objective reads
///   weight   like target; multiplies the terms of a row
struct RowTermsArguments {
  const at::Tensor& logits;
  const at::Tensor& target;
  const std::optional<at::Tensor>& extras;
  const std::optional<at::Tensor>& weight;
  std::string_view objective;
  c10::ArrayRef<double> parameters;
  bool per_row;
  std::optional<std::int64_t> ignore_index;
};

/// Differentiable: (terms, counts).
///   per_row   terms [T, ...target], float32 for half logits; 0 where a row takes no part
///   else      terms [2, T]: sums over the ID and over the OOD rows
///   counts    [2] int64: rows that are ID and OOD, without ignored ones
std::tuple<at::Tensor, at::Tensor> row_terms(const RowTermsArguments& a);

/// The loss: terms reduced as "none", "mean" or "sum" with balance "default", "per_population" or
/// "whole_batch", and the reduced terms.
Losses loss_and_terms(const RowTermsArguments& a, Reduction reduction, Balance balance);

/// The loss alone.
at::Tensor loss(const at::Tensor& logits, const at::Tensor& target, std::string_view objective,
                c10::ArrayRef<double> parameters, const std::optional<at::Tensor>& extras,
                const std::optional<at::Tensor>& weight, std::string_view reduction,
                std::string_view balance, std::optional<std::int64_t> ignore_index);

/// Cross-entropy of the rows with a label from 0 on, as other objectives are built on it.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target,
                         std::string_view reduction = "mean");

namespace ops {

/// The same by ordinary tensor operations: any device, any order of derivative, functorch.
std::tuple<at::Tensor, at::Tensor> row_terms_composite(const RowTermsArguments& a);

struct ForwardParts {
  at::Tensor terms, counts, statistics;
};
ForwardParts row_terms_cpu(const ObjectiveEntry& entry, const RowTermsArguments& a);

struct BackwardParts {
  at::Tensor logits, extras, weight;  ///< undefined where not wanted
};
BackwardParts row_terms_backward_cpu(const ObjectiveEntry& entry, const at::Tensor& upstream,
                                     const RowTermsArguments& a, const at::Tensor& statistics,
                                     bool want_extras, bool want_weight);

struct WantedGradients {
  bool logits, extras, weight;
  bool any() const { return logits || extras || weight; }
};

/// The sum of the terms, or their mean as `balance` says, with its gradients times `upstream`;
/// undefined where not wanted.
struct LossParts {
  at::Tensor loss, terms, logits, extras, weight;
};
LossParts row_loss_cpu(const RowTermsArguments& a, bool sum, Balance balance,
                       const WantedGradients& want, double upstream = 1);

/// The type a loss of these logits is computed and returned in: float32 for half types.
inline at::ScalarType computing_type(const at::Tensor& logits) {
  return at::isReducedFloatingType(logits.scalar_type()) ? at::kFloat : logits.scalar_type();
}

/// Rows of the saved statistics of an entry: max, log_sum, then those it needs.
struct StatisticsLayout {
  int mean = -1, expected = -1, sqnorm = -1, target = -1;
  int count = 2;
  explicit StatisticsLayout(const FormulaEntry& f) {
    if ((f.statistics & kUniformNll) != 0) mean = count++;
    if (f.scaled) expected = count++;
    if (f.scaled || (f.statistics & kSquareNorm) != 0) sqnorm = count++;
    if ((f.statistics & (kNll | kTarget)) != 0) target = count++;
  }
};

}  // namespace ops
}  // namespace ood
