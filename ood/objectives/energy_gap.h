#pragma once

#include "ood/registry/options.h"

namespace ood {

/// Energy gap: cross-entropy, and a hinge on the mean energies E = -logsumexp(x) of the two
/// populations:
///
///   mean_ID nll(x, y) + lambda max(0, mean_ID E - mean_OOD E + margin)
///
/// This is what incerto calls EnergyRegularizedLoss. It is not the loss of Liu et al. (see
/// energy_regularized): it knows the means only, and its gradient vanishes for every row once they
/// are `margin` apart. A batch quantity: there is no value per row. If either population is empty
/// the gap term is 0.
struct EnergyGap {
  static constexpr Card kCard{
      .name = "energy_gap",
      .class_name = "EnergyGapLoss",
      .summary =
          "Cross-entropy, and a hinge on the difference of the mean energies; not Liu et al.",
      .formula =
          "mean_ID (logsumexp(x) - x[y]) + lambda max(0, mean_ID E - mean_OOD E + margin),  "
          "E = -logsumexp(x)",
      .paper = "no paper; EnergyRegularizedLoss of incerto 0.1.1",
      .score = "energy",
      .ood_labels = "outliers: their mean energy is pushed up",
      .uses_ood = true,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "energy_gap"};
  static constexpr unsigned kUses = kNll | kLogSumExp;

  double lambda = 0.1;
  double margin = 10;

  static constexpr auto kParameters = std::array{
      Parameter<EnergyGap>{"lambda", &EnergyGap::lambda, 0, kInfinity, "weight of the gap",
                           "incerto"},
      Parameter<EnergyGap>{"margin", &EnergyGap::margin, -kInfinity, kInfinity,
                           "wanted difference of the mean energies", "incerto"},
  };

  // The rows' energies; combine() turns their means into the term.
  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    return terms(where(known, row.nll(), 0.0), -row.lse());
  }

  // Of the means over the two populations, the terms; an empty one has no energy.
  template <class Means, class Both>
  auto combine(const Means& id, const Means& other, const Both& both) const {
    return terms(id[0], where(both, lambda * relu(id[1] - other[1] + margin), 0.0));
  }
};

namespace nn {
struct EnergyGapLossOptions : LossOptions<EnergyGapLossOptions, EnergyGap> {
  OOD_OPTION(lambda)
  OOD_OPTION(margin)
};
using EnergyGapLoss = Criterion<EnergyGapLossOptions>;
namespace functional {
inline constexpr LossFunction<EnergyGapLossOptions> energy_gap;

/// The pairwise form: mean_ID nll + lambda mean_i max(0, E(in_i) - E(out_i) + margin), for as many
/// outliers as ID rows.
at::Tensor energy_gap_pairwise(const at::Tensor& logits_in, const at::Tensor& target_in,
                               const at::Tensor& logits_out, double lambda = 0.1,
                               double margin = 10);
}  // namespace functional
}  // namespace nn
}  // namespace ood
