#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// Deep SVDD: all known data lies in a small sphere around a center c that is fixed before
/// training.
///
///   one-class (nu = 0):  ID: ||f - c||^2
///   soft boundary:       ID: R^2 + max(0, ||f - c||^2 - R^2) / nu
///
/// OOD rows take no part; mean over the ID rows. All classes count as normal: this objective does
/// not classify. The radius R has no gradient; after warm-up it is the (1 - nu) quantile of the
/// distances of each batch.
struct DeepSvdd {
  static constexpr std::string_view kName = "deep_svdd";
  static constexpr std::string_view kClassName = "DeepSVDDLoss";
  static constexpr std::string_view kSummary =
      "All known data in a small sphere; does not classify.";
  static constexpr std::string_view kFormula =
      "d = ||f - c||^2;  ID: d, or with nu > 0: R^2 + max(0, d - R^2) / nu";
  static constexpr std::string_view kPaper =
      "Ruff et al.: Deep One-Class Classification, ICML 2018";
  static constexpr std::string_view kScore = "center_distance";
  static constexpr std::string_view kOodLabels = "left out";
  static constexpr std::string_view kInput = "embedding";
  static constexpr std::string_view kPitfalls =
      "A bias in the last layer lets the network map everything onto the center.";
  static constexpr auto kTerms = std::array<std::string_view, 1>{"sphere"};
  // Squared distances in many dimensions: 0.1 kills the units within a few steps.
  static constexpr double kLearningRate = 0.01;
  static constexpr std::int64_t kEmbedding = 32;
  static constexpr bool kWithoutBias = true;
  static constexpr bool kClassifies = false;
  static constexpr bool kUsesOod = false;
  static constexpr Balance kBalance = Balance::kPerPopulation;

  double nu = 0;
  double warmup_epochs = 10;

  static constexpr auto kParameters = std::array{
      Parameter<DeepSvdd>{"nu", &DeepSvdd::nu, 0, 1,
                          "share of the data outside of the sphere; 0: one-class objective",
                          "the one-class objective; the paper's soft boundary uses 0.1"},
      Parameter<DeepSvdd>{"warmup_epochs", &DeepSvdd::warmup_epochs, 0, kInfinity,
                          "epochs before the radius follows the batches", "the authors' code"},
  };
};

/// distances [N] = ||f - c||^2, target [N], radius a scalar tensor; nu = 0: one-class.
at::Tensor svdd_loss(const at::Tensor& distances, const at::Tensor& target,
                     const at::Tensor& radius, double nu, std::string_view reduction);

/// The mean of a first pass as a center: entries within 0.1 of 0 move to +-0.1 by their sign, exact
/// zeros stay.
at::Tensor svdd_center(const at::Tensor& mean);

/// The (1 - nu) quantile of the square roots of the distances, linearly interpolated.
at::Tensor svdd_radius(const at::Tensor& distances, double nu);

/// max(0, ||f - c||^2 - R^2) over ID rows, "mean" or "sum": embedding [N, D], center [D], target
/// [N], radius a scalar tensor without gradient.
at::Tensor svdd_hinge_loss(const at::Tensor& embedding, const at::Tensor& center,
                           const at::Tensor& target, const at::Tensor& radius,
                           std::string_view reduction);

/// Deep SAD: as the one-class objective, and labelled outliers are pushed away, one mean over all
/// rows.
///
///   unlabelled (0): d     labelled normal (+1): eta (d + eps)     outlier (-1): eta / (d + eps)
struct DeepSad {
  static constexpr std::string_view kName = "deep_sad";
  static constexpr std::string_view kClassName = "DeepSADLoss";
  static constexpr std::string_view kSummary =
      "All known data near a center, outliers away from it; does not classify.";
  static constexpr std::string_view kFormula =
      "d = ||f - c||^2;  ID: d, or labelled normal: eta (d + eps);  OOD: eta / (d + eps)";
  static constexpr std::string_view kPaper =
      "Ruff et al.: Deep Semi-Supervised Anomaly Detection, ICLR 2020";
  static constexpr std::string_view kScore = "center_distance";
  static constexpr std::string_view kOodLabels = "outliers: pushed away from the center";
  static constexpr std::string_view kInput = "embedding";
  static constexpr std::string_view kPitfalls =
      "The gradient of an outlier near the center is of the order eps^-1.5.";
  static constexpr auto kTerms = std::array<std::string_view, 1>{"sphere"};
  // Squared distances in many dimensions: 0.1 kills the units within a few steps.
  static constexpr double kLearningRate = 0.01;
  static constexpr std::int64_t kEmbedding = 32;
  static constexpr bool kWithoutBias = true;
  static constexpr bool kClassifies = false;
  static constexpr bool kUsesOod = true;
  static constexpr Balance kBalance = Balance::kWholeBatch;

  double eta = 1;
  double eps = 1e-6;
  double labelled_normal = 0;

  static constexpr auto kParameters = std::array{
      Parameter<DeepSad>{"eta", &DeepSad::eta, 0, kInfinity, "weight of labelled samples",
                         "the paper"},
      Parameter<DeepSad>{"eps", &DeepSad::eps, kAboveZero, kInfinity, "added to distances",
                         "the authors' code"},
      Parameter<DeepSad>{"labelled_normal", &DeepSad::labelled_normal, 0, 1,
                         "1: ID samples count as labelled normal, 0: as unlabelled",
                         "unlabelled, as in pytorch-ood"},
  };
};

/// distances [N] = ||f - c||^2; semi_target [N] of 0, +1, -1.
at::Tensor sad_loss(const at::Tensor& distances, const at::Tensor& semi_target, double eta,
                    double eps, std::string_view reduction);

/// The same, "mean" or "sum", from embedding [N, D] and center [D].
at::Tensor sad_embedding_loss(const at::Tensor& embedding, const at::Tensor& center,
                              const at::Tensor& semi_target, double eta, double eps,
                              std::string_view reduction);

}  // namespace ood
