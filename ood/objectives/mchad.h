#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Multi-class hypersphere anomaly detection on squared distances d_j to learned class centers:
///
///   ID:   weight_center max(0, d_y - radius^2) + weight_nll nll(-d, y)
///   OOD:  weight_oe sum_j max(0, (radius + margin)^2 - d_j)
///
/// The formula's row is x = -d; extras [1, B] is the sum over classes of the OOD hinge. This is the
/// documented formula; `legacy` is the authors' code: r instead of r^2 and a mean over N K for the
/// center term, and for outliers distances squared once more, summed: sum max(0, m^2 - d^2).
struct Mchad {
  static constexpr Card kCard{
      .name = "mchad",
      .class_name = "MCHADLoss",
      .summary = "A hypersphere around a learned center for each class, outliers outside of all.",
      .formula =
          "d_j = ||f - mu_j||^2;  ID: w_c max(0, d_y - r^2) + w_n log(1 + sum_{j != y} exp(d_y - "
          "d_j));  "
          "OOD: w_o sum_j max(0, (r + m)^2 - d_j)",
      .paper = "Kirchheim, Filax, Ortmeier: Multi-Class Hypersphere Anomaly Detection, ICPR 2022",
      .score = "center_distance",
      .ood_labels = "outliers: pushed out of all hyperspheres",
      .input = "minus squared distances",
      .pitfalls =
          "The outlier term is a sum over the classes; a training of the program divides its "
          "default weight by their number.",
      .uses_ood = true,
      .embedding = 16,
      .weight_of_classes = "weight_oe",
  };
  static constexpr auto kTerms = std::array<std::string_view, 3>{"center", "nll", "outlier"};
  static constexpr auto kExtras = std::array<std::string_view, 1>{"outlier_hinge"};
  static constexpr auto kInputs = std::array{Input{"embedding", Input::kOutputs}};
  static constexpr auto kState =
      std::array{State{.name = "centers.centers", .role = State::kParameter}};
  static constexpr bool kByClass = true;
  static constexpr bool kByDimension = true;
  static constexpr unsigned kUses = kNll | kTarget;

  double weight_center = 1;
  double weight_nll = 1;
  double weight_oe = 1;
  double radius = 0;
  double margin = 4;
  bool legacy = false;

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
      Parameter<Mchad>{"legacy", &Mchad::legacy, 0, 1,
                       "the authors' code, for weights that were tuned for it",
                       "the formula as documented"},
  };

  /// Outliers keep that far from a center.
  double reach() const { return radius + margin; }

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    return terms(where(known, weight_center * relu(-row.target() - radius * radius), 0.0),
                 where(known, weight_nll * row.nll(), 0.0),
                 where(known, 0.0, weight_oe * row.extra(0)));
  }

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<at::Tensor> prepare(Tensors in) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  at::Tensor distances(const at::Tensor& embedding, Tensors state) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
};

namespace nn {
struct MCHADLossOptions : LossOptions<MCHADLossOptions, Mchad> {
  using LossOptions::LossOptions;
  OOD_OPTION(weight_center)
  OOD_OPTION(weight_nll)
  OOD_OPTION(weight_oe)
  OOD_OPTION(radius)
  OOD_OPTION(margin)
  OOD_OPTION(legacy)
};
using MCHADLoss = Criterion<MCHADLossOptions>;
}  // namespace nn
}  // namespace ood
