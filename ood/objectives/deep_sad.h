#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Deep SAD: as the one-class objective, and labelled outliers are pushed away, one mean over all
/// rows.
///
///   unlabelled (0): d     labelled normal (+1): eta (d + eps)     outlier (-1): eta / (d + eps)
struct DeepSad {
  static constexpr Card kCard{
      .name = "deep_sad",
      .class_name = "DeepSADLoss",
      .summary = "All known data near a center, outliers away from it; does not classify.",
      .formula =
          "d = ||f - c||^2;  ID: d, or labelled normal: eta (d + eps);  OOD: eta / (d + eps)",
      .paper = "Ruff et al.: Deep Semi-Supervised Anomaly Detection, ICLR 2020",
      .score = "center_distance",
      .ood_labels = "outliers: pushed away from the center",
      .input = "embedding",
      .pitfalls = "The gradient of an outlier near the center is of the order eps^-1.5.",
      .uses_ood = true,
      .balance = Balance::kWholeBatch,
      .embedding = 32,
      .without_bias = true,
      // Squared distances in many dimensions: 0.1 kills the units within a few steps.
      .learning_rate = 0.01,
      .classifies = false,
  };
  static constexpr auto kTerms = std::array<std::string_view, 1>{"sphere"};
  static constexpr auto kInputs = std::array{Input{"embedding", Input::kOutputs}};
  static constexpr std::string_view kTargetName = "semi_target";
  static constexpr auto kState = std::array{State{"center"}};
  static constexpr bool kByDimension = true;

  double eta = 1;
  double eps = 1e-6;
  bool labelled_normal = false;

  static constexpr auto kParameters = std::array{
      Parameter<DeepSad>{"eta", &DeepSad::eta, 0, kInfinity, "weight of labelled samples",
                         "the paper"},
      Parameter<DeepSad>{"eps", &DeepSad::eps, kAboveZero, kInfinity, "added to distances",
                         "the authors' code"},
      Parameter<DeepSad>{"labelled_normal", &DeepSad::labelled_normal, 0, 1,
                         "ID samples count as labelled normal, not as unlabelled",
                         "unlabelled, as in pytorch-ood", true},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;
  at::Tensor distances(const at::Tensor& embedding, Tensors state) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
  at::Tensor training_target(const at::Tensor& target) const;
};

namespace nn {
using DeepSADLoss = Criterion<PlainOptions<DeepSad>>;
}
}  // namespace ood
