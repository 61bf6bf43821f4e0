#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// II loss: small spread within classes, large distance between the two closest class means of the
/// batch.
///
///   mean_ID ||z_i - mu_{y_i}||^2 - alpha min_{j<k} ||mu_j - mu_k||^2
///
/// mu are the means of the batch, and the gradient flows through them. Fewer than two classes in
/// the batch: the second part is 0. Unbounded below: the embedding needs normalisation. `none` is
/// the first part only, since the second is a quantity of the batch. OOD rows take no part.
///
/// A training normalises the features without an affine part, and trains the last layer beside
/// them with cross-entropy, as the authors' code does by default.
struct Ii {
  static constexpr std::string_view kName = "ii";
  static constexpr std::string_view kClassName = "IILoss";
  static constexpr std::string_view kSummary =
      "Small spread within classes, large distance between class means.";
  static constexpr std::string_view kFormula =
      "mean_ID ||z - mu_y||^2 - alpha min_{j<k} ||mu_j - mu_k||^2 + w mean_ID (logsumexp(x) - "
      "x[y]);  z: normalised features";
  static constexpr std::string_view kPaper =
      "Hassen, Chan: Learning a Neural-network-based Representation for Open Set Recognition, SDM "
      "2020";
  static constexpr std::string_view kScore = "center_distance";
  static constexpr std::string_view kOodLabels = "left out";
  static constexpr std::string_view kInput =
      "an embedding; in a training the normalised features, beside the logits";
  static constexpr std::string_view kPitfalls =
      "Unbounded below without normalisation of the embedding; batches need two classes.";
  static constexpr auto kTerms = std::array<std::string_view, 3>{"intra", "inter", "cross_entropy"};
  // Of 0.1, 0.03, 0.01, 0.003 the largest of those with the best validation accuracy.
  static constexpr double kLearningRate = 0.01;
  static constexpr bool kTrainsFeatures = true;
  static constexpr bool kUsesOod = false;
  static constexpr Balance kBalance = Balance::kPerPopulation;

  double alpha = 1;
  double normalize_by_dim = 0;
  double cross_entropy = 1;

  static constexpr auto kParameters = std::array{
      Parameter<Ii>{"alpha", &Ii::alpha, 0, kInfinity, "weight of the distance between means",
                    "the paper has none"},
      Parameter<Ii>{"normalize_by_dim", &Ii::normalize_by_dim, 0, 1,
                    "1: divide the spread by the dimension, as the authors' code does",
                    "the paper"},
      Parameter<Ii>{"cross_entropy", &Ii::cross_entropy, 0, kInfinity,
                    "in a training: weight w of the cross-entropy of the logits, or 0",
                    "the authors' code trains with both unless told otherwise"},
  };
};

/// The two parts: intra per row [N] (0 for OOD rows) and inter, a scalar.
struct IiParts {
  at::Tensor intra, inter;
};
IiParts ii_parts(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes,
                 bool normalize_by_dim);

at::Tensor ii_loss(const at::Tensor& embedding, const at::Tensor& target, std::int64_t classes,
                   double alpha, bool normalize_by_dim, std::string_view reduction);

}  // namespace ood
