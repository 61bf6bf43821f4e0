#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Class anchor clustering on distances d_j of an embedding to fixed class anchors:
///
///   ID:  log(1 + sum_{j != y} exp(d_y - d_j)) + anchor_weight d_y
///     =  nll(-d, y) + anchor_weight d_y
///
/// OOD rows take no part. The formula's row is x = -d of embeddings [N, K]; the anchors [K, K] are
/// magnitude times unit vectors, and after a training the means of the classes.
/// Score: min_j gamma_j with gamma_j = d_j (1 - softmin(d)_j), which also decides on the class.
struct Cac {
  static constexpr Card kCard{
      .name = "cac",
      .class_name = "CACLoss",
      .summary = "Embeddings cluster at fixed class anchors.",
      .formula =
          "ID: log(1 + sum_{j != y} exp(d_y - d_j)) + anchor_weight d_y,  d_j = ||z - magnitude "
          "e_j||",
      .paper = "Miller, Suenderhauf, Milford, Dayoub: Class Anchor Clustering, WACV 2021",
      .score = "cac",
      .ood_labels = "left out",
      .input = "minus distances",
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"tuplet", "anchor"};
  static constexpr auto kInputs = std::array{Input{"embedding", Input::kOutputs}};
  static constexpr auto kState = std::array{State{"anchors"}};
  static constexpr bool kByClass = true;
  static constexpr unsigned kUses = kNll | kTarget;

  double anchor_weight = 0.1;
  double magnitude = 10;
  bool squared = false;

  static constexpr auto kParameters = std::array{
      Parameter<Cac>{"anchor_weight", &Cac::anchor_weight, 0, kInfinity,
                     "weight of the distance to the own anchor", "the paper's lambda"},
      Parameter<Cac>{"magnitude", &Cac::magnitude, kAboveZero, kInfinity, "length of the anchors",
                     "the paper's alpha"},
      Parameter<Cac>{"squared", &Cac::squared, 0, 1, "squared distances", "the paper: Euclidean"},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<at::Tensor> prepare(Tensors in) const;
  void update(Tensors in, Tensors state, const Event& event) const;
  at::Tensor distances(const at::Tensor& embedding, Tensors state) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;

  template <class Row, class Known>
  auto operator()(const Row& row, const Known&) const {
    return terms(row.nll(), -anchor_weight * row.target());
  }
};

namespace nn {
struct CACLossOptions : LossOptions<CACLossOptions, Cac> {
  using LossOptions::LossOptions;
  OOD_OPTION(anchor_weight)
  OOD_OPTION(magnitude)
  OOD_OPTION(squared)
};
/// The embedding has as many numbers as there are classes.
using CACLoss = Criterion<CACLossOptions>;
}  // namespace nn
}  // namespace ood
