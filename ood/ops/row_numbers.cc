#include "ood/ops/row_numbers.h"

#include "ood/formula/tensor_row.h"
#include "ood/ops/row_terms.h"
#include "ood/registry/register.h"

namespace ood::ops {
namespace {

// The statistics themselves, as the terms of a formula.
struct NllAndLogSum {
  static constexpr unsigned kUses = kNll | kLogSumExp;
  static constexpr auto kTerms = std::array<std::string_view, 2>{"nll", "lse"};
  static constexpr std::array<Parameter<NllAndLogSum>, 0> kParameters{};

  template <class Row, class Mask>
  auto operator()(const Row& row, const Mask&) const {
    return terms(row.nll(), row.lse());
  }
};

ObjectiveEntry entry_of(std::string_view objective, bool uses_ood) {
  static const FormulaEntry row = formula_entry<NllAndLogSum>();
  ObjectiveEntry e{};
  e.name = objective;
  e.uses_ood = uses_ood;
  e.terms.assign(NllAndLogSum::kTerms.begin(), NllAndLogSum::kTerms.end());
  e.row = row;
  return e;
}

const std::optional<at::Tensor> kNone;

RowTermsArguments arguments(const at::Tensor& logits, const at::Tensor& target) {
  return {logits, target, kNone, kNone, {}, {}, /*per_row=*/true, std::nullopt};
}

}  // namespace

RowNumbers::RowNumbers(const at::Tensor& logits, const at::Tensor& target,
                       std::string_view objective, bool uses_ood)
    : entry_(entry_of(objective, uses_ood)), logits_(logits.contiguous()), target_(target) {
  const auto parts = row_terms_cpu(entry_, arguments(logits_, target_));
  nll = parts.terms.select(0, 0);
  lse = parts.terms.select(0, 1);
  statistics_ = parts.statistics;
  known = parts.counts.const_data_ptr<std::int64_t>()[0];
}

at::Tensor RowNumbers::gradient(const at::Tensor& upstream) const {
  return row_terms_backward_cpu(entry_, upstream, arguments(logits_, target_), statistics_, false,
                                false)
      .logits;
}

}  // namespace ood::ops
