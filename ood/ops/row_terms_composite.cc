// The same formulas by tensor operations: the oracle of the fused path, and its stand-in wherever
// ordinary autograd has to see every step.
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "ood/ops/layout.h"
#include "ood/ops/row_terms.h"

namespace ood::ops {
namespace {

at::Tensor zero_unless(const at::Tensor& condition, const at::Tensor& x) {
  return at::where(condition, x, at::zeros_like(x));
}

// The target as the formula sees it: for an objective whose OOD rows are the last class, with that
// label in their place. Ignored rows keep theirs.
at::Tensor relabelled(const ObjectiveEntry& entry, const RowTermsArguments& a) {
  if (!entry.ood_is_last_class) return a.target;
  auto background = a.target.lt(0);
  if (a.ignore_index) background = background.logical_and(a.target.ne(*a.ignore_index));
  return a.target.masked_fill(background, c10::Scalar(a.logits.sym_size(class_dim(a.logits)) - 1));
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> row_terms_composite(const RowTermsArguments& a) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  const FormulaEntry& f = entry.row;
  const double* parameters = a.parameters.data();
  check_inputs(entry, a.logits, a.target, a.extras, a.weight);
  check_parameters(entry.name, entry.parameters, a.parameters);

  const auto target = relabelled(entry, a);
  const auto id = target.ge(0);
  const auto taken =
      a.ignore_index.has_value() ? a.target.ne(*a.ignore_index) : id.logical_or(target.lt(0));
  const auto known = id.logical_and(taken);
  const auto unknown = id.logical_not().logical_and(taken);
  const auto active = entry.uses_ood ? taken : known;

  // The input is masked, not the output: 0 times the NaN of a row that takes no part is NaN.
  const auto logits = a.logits.to(computing_type(a.logits));
  const auto rows = logits.dim() <= 2 ? logits : logits.movedim(1, -1);
  auto x = zero_unless(active.unsqueeze(-1), rows);
  TensorRow row;
  if (f.scaled || (f.statistics & kSquareNorm) != 0) row.sqnorm_value = x.mul(x).sum(-1);
  if (f.scaled) x = x * f.composite_scale(parameters, row.sqnorm_value).unsqueeze(-1);

  // Every statistic but the last is independent of max, hence no gradient through it.
  const auto max = x.detach().amax(-1);
  const auto relative = x - max.unsqueeze(-1);
  const auto log_sum = relative.exp().sum(-1).log();
  const auto label = zero_unless(known, target).unsqueeze(-1);
  if ((f.statistics & kNll) != 0)
    row.nll_value = zero_unless(known, log_sum - relative.gather(-1, label).squeeze(-1));
  if ((f.statistics & kTarget) != 0)
    row.target_value = zero_unless(known, x.gather(-1, label).squeeze(-1));
  if ((f.statistics & kUniformNll) != 0) row.uniform_nll_value = log_sum - relative.mean(-1);
  if ((f.statistics & kLogSumExp) != 0) row.lse_value = log_sum + max;
  if (a.extras.has_value() && a.extras->defined())
    row.extras = at::where(active, *a.extras, at::zeros_like(*a.extras));

  auto values = f.composite(parameters, row, known);
  for (auto& term : values) {
    if (a.weight.has_value() && a.weight->defined()) term = term * *a.weight;
    term = zero_unless(active, term);
  }
  const auto counts = at::stack({known.sum(), unknown.sum()});
  if (a.per_row) return {at::stack(values), counts};
  std::vector<at::Tensor> sums;
  for (const auto& term : values) sums.push_back(zero_unless(known, term).sum());
  for (const auto& term : values) sums.push_back(zero_unless(unknown, term).sum());
  return {at::stack(sums).view({2, static_cast<std::int64_t>(values.size())}), counts};
}

}  // namespace ood::ops
