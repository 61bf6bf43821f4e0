#include "ood/ops/row_numbers.h"

#include "ood/formula/tensor_row.h"
#include "ood/objectives/register.h"
#include "ood/ops/row_terms.h"

namespace ood::ops {
namespace {

// The statistics themselves, as the terms of a formula.
struct NllAndLogSum {
  static constexpr std::string_view kName = "nll and lse";
  static constexpr unsigned kUses = kNll | kLogSumExp;
  static constexpr auto kTerms = std::array<std::string_view, 2>{"nll", "lse"};
  static constexpr std::array<Parameter<NllAndLogSum>, 0> kParameters{};

  template <class Row, class Mask>
  auto operator()(const Row& row, const Mask&) const {
    return terms(row.nll(), row.lse());
  }
};

const ObjectiveEntry& entry() {
  static const ObjectiveEntry made = [] {
    ObjectiveEntry e{};
    e.name = NllAndLogSum::kName;
    e.uses_ood = true;
    e.terms.assign(NllAndLogSum::kTerms.begin(), NllAndLogSum::kTerms.end());
    e.row = formula_entry<NllAndLogSum>();
    return e;
  }();
  return made;
}

const std::optional<at::Tensor> kNone;

RowTermsArguments arguments(const at::Tensor& logits, const at::Tensor& target) {
  return {logits, target, kNone, kNone, entry().name, {}, /*per_row=*/true, std::nullopt};
}

}  // namespace

RowNumbers::RowNumbers(const at::Tensor& logits, const at::Tensor& target)
    : logits_(logits.contiguous()), target_(target) {
  const auto parts = row_terms_cpu(entry(), arguments(logits_, target_));
  nll = parts.terms.select(0, 0);
  lse = parts.terms.select(0, 1);
  statistics_ = parts.statistics;
  known = parts.counts.const_data_ptr<std::int64_t>()[0];
}

at::Tensor RowNumbers::gradient(const at::Tensor& upstream) const {
  return row_terms_backward_cpu(entry(), upstream, arguments(logits_, target_), statistics_, false,
                                false)
      .logits;
}

}  // namespace ood::ops
