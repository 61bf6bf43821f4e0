#pragma once

#include "ood/registry/options.h"

namespace ood {

/// Outlier exposure: cross-entropy for ID rows, and for outliers the cross-entropy from the uniform
/// distribution to the prediction, which is KL(uniform || p) + log C:
///
///   ID:  nll(x, y)        OOD:  alpha uniform_nll(x)
///
/// The mean is mean_ID + mean_OOD; the authors' code forms -(mean(x) - logsumexp(x)), the same
/// thing. Shapes: logits [B, C] or [B, C, ...], target [B] or [B, ...] of int64, < 0 marks an
/// outlier.
struct OutlierExposure {
  static constexpr Card kCard{
      .name = "outlier_exposure",
      .class_name = "OutlierExposureLoss",
      .summary = "Cross-entropy, and uniform predictions for outliers.",
      .formula = "ID: logsumexp(x) - x[y];  OOD: alpha (logsumexp(x) - mean(x))",
      .paper =
          "Hendrycks, Mazeika, Dietterich: Deep Anomaly Detection with Outlier Exposure, ICLR 2019",
      .score = "msp",
      .ood_labels = "outliers: pushed to uniform predictions",
      .uses_ood = true,
  };
  static constexpr auto kTerms =
      std::array<std::string_view, 2>{"cross_entropy", "outlier_exposure"};
  static constexpr unsigned kUses = kNll | kUniformNll;

  double alpha = 0.5;

  static constexpr auto kParameters = std::array{
      Parameter<OutlierExposure>{"alpha", &OutlierExposure::alpha, 0, kInfinity,
                                 "weight of the outlier term",
                                 "the authors' vision experiments; 1.0 in their text experiments"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    return terms(where(known, row.nll(), 0.0), where(known, 0.0, alpha * row.uniform_nll()));
  }
};

namespace nn {
struct OutlierExposureLossOptions : LossOptions<OutlierExposureLossOptions, OutlierExposure> {
  OOD_OPTION(alpha)
};
using OutlierExposureLoss = Criterion<OutlierExposureLossOptions>;
namespace functional {
inline constexpr LossFunction<OutlierExposureLossOptions> outlier_exposure;
}
}  // namespace nn
}  // namespace ood
