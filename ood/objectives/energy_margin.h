#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// SCONE: keep the classifier, accept ID data, and reject outliers by a margin; an augmented
/// Lagrangian of two constraints.
///
///   s = logsumexp x,  phi(s) = w s + b  (large: OOD)
///   L_in = mean_ID sigmoid(phi(s)),      c1 = L_in - false_alarm
///   L_out = mean_OOD sigmoid(-phi(s + margin)),  c2 = CE_ID - tau L_0
///   psi(c2; l2, b2) + out_weight L_out + psi(c1; l1, b1),
///   psi(c; l, b) = l c + b c^2 / 2 where b c + l >= 0, else -l^2 / (2 b)
///
/// L_0 is the cross-entropy before; the multipliers l and penalties b follow the violations.
struct EnergyMargin {
  static constexpr std::string_view kName = "energy_margin";
  static constexpr std::string_view kClassName = "EnergyMarginLoss";
  static constexpr std::string_view kSummary =
      "Outliers beyond an energy margin, under constraints on ID data and accuracy (SCONE).";
  static constexpr std::string_view kFormula =
      "psi(CE - tau L_0) + out_weight mean_OOD sigmoid(-phi(s + margin)) + psi(mean_ID "
      "sigmoid(phi(s)) - false_alarm)";
  static constexpr std::string_view kPaper = "Bai et al.: Feed Two Birds with One Scone, ICML 2023";
  static constexpr std::string_view kScore = "energy";
  static constexpr std::string_view kOodLabels = "outliers beyond the margin";
  static constexpr std::string_view kPitfalls =
      "The method fine-tunes: while the cross-entropy is below tau L_0 nothing trains the "
      "classifier. Runs from random weights learn it in warmup_epochs first.";
  static constexpr auto kTerms =
      std::array<std::string_view, 3>{"classification", "outside", "inside"};
  static constexpr bool kUsesOod = true;
  static constexpr Balance kBalance = Balance::kPerPopulation;

  double margin = 10;
  double false_alarm = 0.05;
  double tau = 2;
  double out_weight = 1;
  double rate = 1;
  double growth = 1.5;
  double tolerance = 0;
  double shared_multiplier = 0;
  double warmup_epochs = 1;
  double updates = 100;

  using Self = EnergyMargin;
  static constexpr auto kParameters = std::array{
      Parameter<Self>{"margin", &Self::margin, 0, kInfinity, "energy gap between OOD and ID, >= 0",
                      "the authors' runs (their eta is minus this)"},
      Parameter<Self>{"false_alarm", &Self::false_alarm, 0, 1,
                      "share of ID data that may be rejected", "the authors' code"},
      Parameter<Self>{"tau", &Self::tau, 0, kInfinity, "cross-entropy allowed, in multiples of L_0",
                      "the authors' code"},
      Parameter<Self>{"out_weight", &Self::out_weight, 0, kInfinity, "weight of the outlier term",
                      "the authors' code"},
      Parameter<Self>{"rate", &Self::rate, 0, kInfinity, "learning rate of the multipliers",
                      "the authors' code"},
      Parameter<Self>{"growth", &Self::growth, 1, kInfinity, "factor of a penalty that is violated",
                      "the authors' code"},
      Parameter<Self>{"tolerance", &Self::tolerance, 0, kInfinity, "violation that is overlooked",
                      "the authors' code"},
      Parameter<Self>{"shared_multiplier", &Self::shared_multiplier, 0, 1,
                      "1: both constraints share a multiplier, for reproduction",
                      "separate, as the algorithm is written; the authors' code shares it"},
      Parameter<Self>{"warmup_epochs", &Self::warmup_epochs, 0, kInfinity,
                      "epochs of cross-entropy before; 0 with --init",
                      "for runs from random weights"},
      Parameter<Self>{"updates", &Self::updates, 1, 1e9, "updates of the multipliers in a training",
                      "the authors' 100 epochs with one update each"},
  };
};

/// Means over the ID and OOD rows that the constraints are made of; 0 for an empty population. A
/// margin below 0 is the opposite of one; modules refuse it.
struct EnergyMarginMeans {
  at::Tensor inside, outside, cross_entropy, known;
};
EnergyMarginMeans energy_margin_means(const at::Tensor& logits, const at::Tensor& target,
                                      const at::Tensor& phi_weight, const at::Tensor& phi_bias,
                                      double margin);

/// psi(c; multiplier, penalty).
at::Tensor augmented_lagrangian(const at::Tensor& violation, const at::Tensor& multiplier,
                                const at::Tensor& penalty);

/// The three terms of the loss from those means. state [5]: multiplier and penalty of the false
/// alarms, of the cross-entropy, and L_0. A missing population contributes exactly 0.
struct EnergyMarginTerms {
  at::Tensor classification, outside, inside;
};
EnergyMarginTerms energy_margin_terms(const EnergyMarginMeans& means, const at::Tensor& state,
                                      double false_alarm, double tau, double out_weight);

/// The sum of the terms for logits [N, C], target [N].
at::Tensor energy_margin_loss(const at::Tensor& logits, const at::Tensor& target,
                              const at::Tensor& phi_weight, const at::Tensor& phi_bias,
                              const at::Tensor& state, double margin, double false_alarm,
                              double tau, double out_weight);

/// One update of the multipliers by the violations over the training data, without gradient.
void energy_margin_update_(at::Tensor& state, double inside_violation, double ce_violation,
                           double rate, double growth, double tolerance, bool shared_multiplier);

}  // namespace ood
