#pragma once

#include "ood/registry/options.h"

namespace ood {

/// Entropic open-set loss: outliers are pulled to the uniform distribution, with one mean over the
/// whole batch:
///
///   ID:  nll(x, y)        OOD:  w uniform_nll(x)
///
/// Shapes: logits [B, C] or [B, C, ...], target [B] or [B, ...] of int64, < 0 marks an outlier.
struct EntropicOpenSet {
  static constexpr Card kCard{
      .name = "entropic_open_set",
      .class_name = "EntropicOpenSetLoss",
      .summary = "Maximal entropy for outliers, one mean over the whole batch.",
      .formula = "ID: logsumexp(x) - x[y];  OOD: w (logsumexp(x) - mean(x))",
      .paper = "Dhamija, Guenther, Boult: Reducing Network Agnostophobia, NeurIPS 2018",
      .score = "msp",
      .ood_labels = "outliers: pushed to uniform predictions",
      .uses_ood = true,
      .balance = Balance::kWholeBatch,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "entropic"};
  static constexpr unsigned kUses = kNll | kUniformNll;

  double unknown_weight = 1;

  static constexpr auto kParameters = std::array{
      Parameter<EntropicOpenSet>{"unknown_weight", &EntropicOpenSet::unknown_weight, 0, kInfinity,
                                 "weight of an outlier against an ID sample", "the paper"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    return terms(where(known, row.nll(), 0.0),
                 where(known, 0.0, unknown_weight * row.uniform_nll()));
  }
};

namespace nn {
struct EntropicOpenSetLossOptions : LossOptions<EntropicOpenSetLossOptions, EntropicOpenSet> {
  OOD_OPTION(unknown_weight)
};
using EntropicOpenSetLoss = Criterion<EntropicOpenSetLossOptions>;
namespace functional {
inline constexpr LossFunction<EntropicOpenSetLossOptions> entropic_open_set;
}
}  // namespace nn
}  // namespace ood
