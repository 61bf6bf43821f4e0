#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// Center loss: draws embeddings to the center of their class, up to a radius:
///
///   ID:  max(0, ||x - c_y||^2 - radius^2)
///
/// OOD rows take no part; mean over the ID rows. Work is O(N D): only the own center matters.
/// Trained with cross-entropy beside it (total = cross-entropy + weight * center), as the paper
/// does: alone, everything collapses into the centers.
struct Center {
  static constexpr std::string_view kName = "center";
  static constexpr std::string_view kClassName = "CenterLoss";
  static constexpr std::string_view kSummary =
      "Cross-entropy, and features near the learned center of their class.";
  static constexpr std::string_view kFormula =
      "ID: logsumexp(x) - x[y] + weight max(0, ||F - c_y||^2 - radius^2)";
  static constexpr std::string_view kPaper =
      "Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition, "
      "ECCV 2016";
  static constexpr std::string_view kScore = "msp";
  static constexpr std::string_view kOodLabels = "left out";
  static constexpr std::string_view kInput = "logits and features";
  static constexpr std::string_view kPitfalls =
      "The centers are parameters: they belong into the optimizer.";
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "center"};
  static constexpr bool kTrainsFeatures = true;
  static constexpr bool kUsesOod = false;
  static constexpr Balance kBalance = Balance::kPerPopulation;

  double weight = 0.003;
  double radius = 0;
  double magnitude = 1;

  static constexpr auto kParameters = std::array{
      Parameter<Center>{"weight", &Center::weight, 0, kInfinity, "weight of the center term",
                        "the paper's lambda"},
      Parameter<Center>{"radius", &Center::radius, 0, kInfinity,
                        "no pull within that distance of the center", "the original has none"},
      Parameter<Center>{"magnitude", &Center::magnitude, 0, kInfinity,
                        "scale of the centers at the start", "unit"},
  };
};

/// embedding [N, D], target [N], centers [K, D]; differentiable by embedding and centers.
at::Tensor center_loss(const at::Tensor& embedding, const at::Tensor& target,
                       const at::Tensor& centers, double radius, std::string_view reduction);

/// The same of distances [N, K] that are squared: the mean of max(0, d_y - radius^2) over ID rows.
at::Tensor center_loss_of_distances(const at::Tensor& distances, const at::Tensor& target,
                                    double radius, std::string_view reduction);

/// The paper's own update, without gradient: c_j += alpha sum_{i in j} (x_i - c_j) / (1 + n_j).
void center_update_(at::Tensor& centers, const at::Tensor& embedding, const at::Tensor& target,
                    double alpha);

}  // namespace ood
