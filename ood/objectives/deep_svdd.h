#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

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
  static constexpr Card kCard{
      .name = "deep_svdd",
      .class_name = "DeepSVDDLoss",
      .summary = "All known data in a small sphere; does not classify.",
      .formula = "d = ||f - c||^2;  ID: d, or with nu > 0: R^2 + max(0, d - R^2) / nu",
      .paper = "Ruff et al.: Deep One-Class Classification, ICML 2018",
      .score = "center_distance",
      .ood_labels = "left out",
      .input = "embedding",
      .pitfalls = "A bias in the last layer lets the network map everything onto the center.",
      .embedding = 32,
      .without_bias = true,
      // Squared distances in many dimensions: 0.1 kills the units within a few steps.
      .learning_rate = 0.01,
      .pretrained = true,
      .classifies = false,
  };
  static constexpr auto kTerms = std::array<std::string_view, 1>{"sphere"};
  static constexpr auto kInputs = std::array{Input{"embedding", Input::kOutputs}};
  static constexpr auto kState = std::array{State{"center"}, State{"radius"}};
  static constexpr bool kByDimension = true;
  static constexpr bool kUpdatesEachStep = true;

  double nu = 0;
  double warmup_epochs = 10;

  static constexpr auto kParameters = std::array{
      Parameter<DeepSvdd>{"nu", &DeepSvdd::nu, 0, 1,
                          "share of the data outside of the sphere; 0: one-class objective",
                          "the one-class objective; the paper's soft boundary uses 0.1"},
      Parameter<DeepSvdd>{"warmup_epochs", &DeepSvdd::warmup_epochs, 0, kInfinity,
                          "epochs before the radius follows the batches", "the authors' code",
                          true},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;
  at::Tensor distances(const at::Tensor& embedding, Tensors state) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
};

namespace nn {
using DeepSVDDLoss = Criterion<PlainOptions<DeepSvdd>>;
}
}  // namespace ood
