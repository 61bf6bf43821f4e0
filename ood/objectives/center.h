#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Center loss: draws embeddings to the center of their class, up to a radius:
///
///   ID:  max(0, ||x - c_y||^2 - radius^2)
///
/// OOD rows take no part; mean over the ID rows. Work is O(N D): only the own center matters.
/// Trained with cross-entropy beside it (total = cross-entropy + weight * center), as the paper
/// does: alone, everything collapses into the centers.
struct Center {
  static constexpr Card kCard{
      .name = "center",
      .class_name = "CenterLoss",
      .summary = "Cross-entropy, and features near the learned center of their class.",
      .formula = "ID: logsumexp(x) - x[y] + weight max(0, ||F - c_y||^2 - radius^2)",
      .paper =
          "Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face "
          "Recognition, "
          "ECCV 2016",
      .score = "msp",
      .ood_labels = "left out",
      .input = "logits and features",
      .pitfalls = "The centers are parameters: they belong into the optimizer.",
      .trains_features = true,
      .cross_entropy_weight = "1",
      .own_weight = "weight",
  };

  static constexpr auto kTerms = std::array<std::string_view, 1>{"center"};
  static constexpr auto kInputs = std::array{Input{"embedding", Input::kFeatures}};
  static constexpr auto kState =
      std::array{State{.name = "centers.centers", .role = State::kParameter, .fixed_by = "fixed"}};
  static constexpr bool kByClass = true;
  static constexpr bool kByDimension = true;

  double magnitude = 1;
  double radius = 0;
  bool fixed = false;
  double weight = 0.003;

  static constexpr auto kParameters = std::array{
      Parameter<Center>{"magnitude", &Center::magnitude, 0, kInfinity,
                        "scale of the centers at the start", "unit"},
      Parameter<Center>{"radius", &Center::radius, 0, kInfinity,
                        "no pull within that distance of the center", "the original has none"},
      Parameter<Center>{"fixed", &Center::fixed, 0, 1, "the centers stay as they were drawn",
                        "the paper learns them"},
      Parameter<Center>{"weight", &Center::weight, 0, kInfinity, "weight of the center term",
                        "the paper's lambda", true},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
};

namespace nn {
using CenterLoss = Criterion<PlainOptions<Center>>;
}
}  // namespace ood
