#pragma once

#include "ood/nn/loss_options.h"

namespace ood {

/// Class anchor clustering on distances d_j of an embedding to fixed class anchors:
///
///   ID:  log(1 + sum_{j != y} exp(d_y - d_j)) + anchor_weight d_y  =  nll(-d, y) + anchor_weight
///   d_y
///
/// OOD rows take no part. The formula's row is x = -d; ood::nn::CACLoss computes d from embeddings
/// (Euclidean by default) and holds the anchors, magnitude times unit vectors.
/// Score: min_j d_j (1 - softmin(d)_j).
struct Cac {
  static constexpr std::string_view kName = "cac";
  static constexpr std::string_view kClassName = "CACLoss";
  static constexpr std::string_view kSummary = "Embeddings cluster at fixed class anchors.";
  static constexpr std::string_view kFormula =
      "ID: log(1 + sum_{j != y} exp(d_y - d_j)) + anchor_weight d_y,  d_j = ||z - magnitude e_j||";
  static constexpr std::string_view kPaper =
      "Miller, Suenderhauf, Milford, Dayoub: Class Anchor Clustering, WACV 2021";
  static constexpr std::string_view kScore = "cac";
  static constexpr std::string_view kOodLabels = "left out";
  static constexpr std::string_view kInput = "minus distances";
  static constexpr auto kTerms = std::array<std::string_view, 2>{"tuplet", "anchor"};
  static constexpr unsigned kUses = kNll | kTarget;
  static constexpr bool kUsesOod = false;
  static constexpr Balance kBalance = Balance::kPerPopulation;

  double anchor_weight = 0.1;
  double magnitude = 10;  // of the anchors; the module's, not the formula's

  static constexpr auto kParameters = std::array{
      Parameter<Cac>{"anchor_weight", &Cac::anchor_weight, 0, kInfinity,
                     "weight of the distance to the own anchor", "the paper's lambda"},
      Parameter<Cac>{"magnitude", &Cac::magnitude, kAboveZero, kInfinity, "length of the anchors",
                     "the paper's alpha"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known&) const {
    return terms(row.nll(), -anchor_weight * row.target());
  }
};

}  // namespace ood
