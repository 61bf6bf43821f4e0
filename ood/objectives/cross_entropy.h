#pragma once

#include "ood/registry/options.h"

namespace ood {

/// Cross-entropy that leaves OOD rows out, with optional label smoothing s:
///
///   ID:  (1 - s) nll(x, y) + s uniform_nll(x)
///
/// Shapes: logits [B, C] or [B, C, ...], target [B] or [B, ...] of int64.
struct CrossEntropy {
  static constexpr Card kCard{
      .name = "cross_entropy",
      .class_name = "CrossEntropyLoss",
      .summary = "Cross-entropy of the ID rows; OOD rows take no part.",
      .formula = "ID: (1 - s) (logsumexp(x) - x[y]) + s (logsumexp(x) - mean(x))",
      .paper = "label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016",
      .score = "msp",
      .ood_labels = "left out",
  };
  static constexpr auto kTerms = std::array<std::string_view, 1>{"cross_entropy"};
  static constexpr unsigned kUses = kNll | kUniformNll;

  double label_smoothing = 0;

  static constexpr auto kParameters = std::array{
      Parameter<CrossEntropy>{"label_smoothing", &CrossEntropy::label_smoothing, 0, 1,
                              "share of the target spread evenly over all classes",
                              "off, as in torch"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known&) const {
    // With a masked class (a logit of -inf) uniform_nll is infinite and 0 times it is not 0.
    if (label_smoothing == 0) return terms(row.nll());
    return terms((1 - label_smoothing) * row.nll() + label_smoothing * row.uniform_nll());
  }
};

namespace nn {
struct CrossEntropyLossOptions : LossOptions<CrossEntropyLossOptions, CrossEntropy> {
  OOD_OPTION(label_smoothing)
};
using CrossEntropyLoss = Criterion<CrossEntropyLossOptions>;
namespace functional {
inline constexpr LossFunction<CrossEntropyLossOptions> cross_entropy;
}
}  // namespace nn
}  // namespace ood
