#pragma once

#include <c10/util/ArrayRef.h>

#include "ood/nn/loss_options.h"

namespace ood {

/// Multi-class hypersphere anomaly detection on squared distances d_j to learned class centers:
///
///   ID:   weight_center max(0, d_y - radius^2) + weight_nll nll(-d, y)
///   OOD:  weight_oe sum_j max(0, (radius + margin)^2 - d_j)
///
/// The formula's row is x = -d; extras [1, B] is the sum over classes of the OOD hinge. This is the
/// documented formula; the authors' code squares distances twice and averages over B C, which
/// ood::nn::MCHADLoss reproduces with `legacy`, for weights that were tuned for it.
struct Mchad {
  static constexpr std::string_view kName = "mchad";
  static constexpr std::string_view kClassName = "MCHADLoss";
  static constexpr std::string_view kSummary =
      "A hypersphere around a learned center for each class, outliers outside of all.";
  static constexpr std::string_view kFormula =
      "d_j = ||f - mu_j||^2;  ID: w_c max(0, d_y - r^2) + w_n log(1 + sum_{j != y} exp(d_y - "
      "d_j));  "
      "OOD: w_o sum_j max(0, (r + m)^2 - d_j)";
  static constexpr std::string_view kPaper =
      "Kirchheim, Filax, Ortmeier: Multi-Class Hypersphere Anomaly Detection, ICPR 2022";
  static constexpr std::string_view kScore = "center_distance";
  static constexpr std::string_view kOodLabels = "outliers: pushed out of all hyperspheres";
  static constexpr std::string_view kInput = "minus squared distances";
  static constexpr auto kTerms = std::array<std::string_view, 3>{"center", "nll", "outlier"};
  static constexpr auto kExtras = std::array<std::string_view, 1>{"outlier_hinge"};
  // Squared distances in many dimensions: 0.1 kills the units within a few steps.
  static constexpr double kLearningRate = 0.01;
  static constexpr std::int64_t kEmbedding = 16;
  static constexpr unsigned kUses = kNll | kTarget;
  static constexpr bool kUsesOod = true;
  static constexpr Balance kBalance = Balance::kPerPopulation;

  double weight_center = 1;
  double weight_nll = 1;
  double weight_oe = 1;
  double radius = 0;
  double margin = 4;

  static constexpr auto kParameters = std::array{
      Parameter<Mchad>{"weight_center", &Mchad::weight_center, 0, kInfinity,
                       "weight of the distance to the own center", "the formula as documented"},
      Parameter<Mchad>{"weight_nll", &Mchad::weight_nll, 0, kInfinity,
                       "weight of the separation of the classes", "the formula as documented"},
      Parameter<Mchad>{"weight_oe", &Mchad::weight_oe, 0, kInfinity, "weight of the outliers",
                       "the formula as documented"},
      Parameter<Mchad>{"radius", &Mchad::radius, 0, kInfinity, "radius of the hyperspheres",
                       "the authors' configurations"},
      Parameter<Mchad>{"margin", &Mchad::margin, 0, kInfinity,
                       "outliers keep that far from a sphere",
                       "the authors' CIFAR-10 configuration"},
  };

  /// Outliers keep that far from a center.
  double reach() const { return radius + margin; }

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    return terms(where(known, weight_center * relu(-row.target() - radius * radius), 0.0),
                 where(known, weight_nll * row.nll(), 0.0),
                 where(known, 0.0, weight_oe * row.extra(0)));
  }
};

/// The loss of squared distances [N, K], "mean" or "sum", by the parameters in their order: in one
/// step what the formula and its hinge give in several.
at::Tensor mchad_loss(const at::Tensor& distances, const at::Tensor& target,
                      c10::ArrayRef<double> parameters, std::string_view reduction);

}  // namespace ood
