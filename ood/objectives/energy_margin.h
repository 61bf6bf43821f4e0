#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

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
/// L_0 is the cross-entropy before; the multipliers l and penalties b follow the violations. A
/// missing population contributes exactly 0. state [5]: l and b of the false alarms, of the
/// cross-entropy, and L_0.
struct EnergyMargin {
  static constexpr Card kCard{
      .name = "energy_margin",
      .class_name = "EnergyMarginLoss",
      .summary =
          "Outliers beyond an energy margin, under constraints on ID data and accuracy (SCONE).",
      .formula =
          "psi(CE - tau L_0) + out_weight mean_OOD sigmoid(-phi(s + margin)) + psi(mean_ID "
          "sigmoid(phi(s)) - false_alarm)",
      .paper = "Bai et al.: Feed Two Birds with One Scone, ICML 2023",
      .score = "energy",
      .ood_labels = "outliers beyond the margin",
      .pitfalls =
          "The method fine-tunes: while the cross-entropy is below tau L_0 nothing trains the "
          "classifier. Runs from random weights learn it in the warm-up.",
      .uses_ood = true,
      .per_row = false,
  };
  static constexpr auto kTerms =
      std::array<std::string_view, 3>{"classification", "outside", "inside"};
  static constexpr auto kState = std::array{
      State{.name = "phi.weight", .role = State::kParameter},
      State{.name = "phi.bias", .role = State::kParameter}, State{"state"},
      State{.name = "boundary", .training_only = true},
      State{.name = "window", .role = State::kExact, .in_loss = false, .training_only = true}};
  static constexpr bool kUpdatesEachStep = true;

  double initial_cross_entropy = 0;
  double margin = 10;
  double false_alarm = 0.05;
  double tau = 2;
  double out_weight = 1;
  double rate = 1;
  double growth = 1.5;
  double tolerance = 0;
  bool shared_multiplier = false;
  double warmup = 0.5;
  double updates = 100;

  using Self = EnergyMargin;
  static constexpr auto kParameters = std::array{
      Parameter<Self>{"initial_cross_entropy", &Self::initial_cross_entropy, 0, kInfinity,
                      "L_0, of the network on its training data before; 0: it is measured, and "
                      "until then the loss is the cross-entropy",
                      "measured"},
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
                      "both constraints share a multiplier, for reproduction",
                      "separate, as the algorithm is written; the authors' code shares it"},
      Parameter<Self>{"warmup", &Self::warmup, 0, 1,
                      "share of the training that is cross-entropy alone; 0 with `init`",
                      "for runs from random weights", true},
      Parameter<Self>{"updates", &Self::updates, 1, 1e9, "updates of the multipliers in a training",
                      "the authors' 100 epochs with one update each", true},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<Term> composite(Tensors in) const;
  std::vector<Term> composite_of_layer(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;

 private:
  std::vector<at::Tensor> with_layer(Tensors in) const;
  double steepness() const { return 1 / std::max(margin, 1.0); }
  void measure(Tensors state, const Event& event) const;
  void constrain(Tensors state, const Event& event) const;
  void update_multipliers(Tensors state) const;
};

namespace nn {
using EnergyMarginLoss = Criterion<PlainOptions<EnergyMargin>>;
}
}  // namespace ood
