#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Energy-bounded learning (Liu et al. 2020, eq. 7): squared hinges keep the energy E =
/// -logsumexp(x) of ID rows below margin_in and that of outliers above margin_out:
///
///   ID:  nll(x, y) + alpha max(0, E - margin_in)^2        OOD:  alpha max(0, margin_out - E)^2
///
/// The margins are on the scale of the logits: measure the energies of the network that you start
/// from and put margin_in and margin_out near the means of ID data and outliers. From random
/// weights the energy of C logits near 0 is -log C, so that the defaults, which are meant for
/// fine-tuning, start with hinges above 400. Shapes: logits [B, C] or [B, C, ...], target [B] or
/// [B, ...] of int64, < 0 marks an outlier.
struct EnergyRegularized {
  static constexpr Card kCard{
      .name = "energy_regularized",
      .class_name = "EnergyRegularizedLoss",
      .summary =
          "Cross-entropy, and squared hinges that hold the energies of ID rows and outliers apart.",
      .formula =
          "E = -logsumexp(x);  ID: logsumexp(x) - x[y] + alpha max(0, E - margin_in)^2;  "
          "OOD: alpha max(0, margin_out - E)^2",
      .paper = "Liu, Wang, Owens, Li: Energy-based Out-of-distribution Detection, NeurIPS 2020",
      .score = "energy",
      .ood_labels = "outliers: pushed to energies above margin_out",
      .pitfalls =
          "The margins are on the scale of the logits. The defaults of the authors' code are meant "
          "for fine-tuning their networks; a training of the program measures its own.",
      .uses_ood = true,
      .id_energy = "margin_in",
      .outlier_energy = "margin_out",
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "energy"};
  static constexpr unsigned kUses = kNll | kLogSumExp;

  double alpha = 0.1;
  double margin_in = -25;
  double margin_out = -7;

  static constexpr auto kParameters = std::array{
      Parameter<EnergyRegularized>{"alpha", &EnergyRegularized::alpha, 0, kInfinity,
                                   "weight of the energy terms", "the authors' code"},
      Parameter<EnergyRegularized>{
          "margin_in", &EnergyRegularized::margin_in, -kInfinity, kInfinity,
          "ID energies above it are penalised",
          "default of the authors' code; their runs use -23 (CIFAR-10) and -27 (CIFAR-100)"},
      Parameter<EnergyRegularized>{"margin_out", &EnergyRegularized::margin_out, -kInfinity,
                                   kInfinity, "outlier energies below it are penalised",
                                   "default of the authors' code; their runs use -5"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    const auto energy = -row.lse();
    return terms(
        where(known, row.nll(), 0.0),
        alpha * where(known, square(relu(energy - margin_in)), square(relu(margin_out - energy))));
  }

  /// Margins of hinges that no row or every row of a first batch violates.
  std::vector<std::string> check(Tensors in) const;
};

namespace nn {
struct EnergyRegularizedLossOptions : LossOptions<EnergyRegularizedLossOptions, EnergyRegularized> {
  OOD_OPTION(alpha)
  OOD_OPTION(margin_in)
  OOD_OPTION(margin_out)
};
using EnergyRegularizedLoss = Criterion<EnergyRegularizedLossOptions>;
namespace functional {
inline constexpr LossFunction<EnergyRegularizedLossOptions> energy_regularized;
}
}  // namespace nn
}  // namespace ood
