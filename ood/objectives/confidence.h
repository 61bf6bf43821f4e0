#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Learned confidence: the network says how sure it is, c = sigmoid(u), and may ask for the label.
///
///   q = c p_y + (1 - c),   ID: -log q + lambda (-log c)
///
/// For about half of each batch the label is not given (q = p_y), so that the classifier still
/// learns; lambda follows a budget for -log c: after a step lambda / 1.01 where the budget is above
/// the mean of -log c, else lambda / 0.99. OOD rows take no part; mean over the ID rows.
/// Inputs: logits [N, C], confidence_logit [N] before the sigmoid, target [N].
struct Confidence {
  static constexpr Card kCard{
      .name = "confidence",
      .class_name = "ConfidenceLoss",
      .summary = "A further output learns the confidence by trading hints for a penalty.",
      .formula =
          "c = sigmoid(u);  ID: -log(c p_y + 1 - c) + lambda (-log c), without hint: "
          "-log p_y + lambda (-log c)",
      .paper =
          "DeVries, Taylor: Learning Confidence for Out-of-Distribution Detection in Neural "
          "Networks, 2018",
      .score = "confidence",
      .ood_labels = "left out",
      .input = "logits and the confidence logit",
      .pitfalls =
          "The confidence is given before the sigmoid. The paper also perturbs test inputs; "
          "the score here does not.",
      .further_outputs = 1,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"nll", "confidence"};
  static constexpr auto kInputs =
      std::array{Input{"logits", Input::kLogits}, Input{"confidence_logit", Input::kFurther}};
  static constexpr auto kState = std::array{State{"lambda"}};
  static constexpr bool kUpdatesEachStep = true;

  double lambda = 0.1;
  double budget = 0.3;
  double hints = 0.5;

  static constexpr auto kParameters = std::array{
      Parameter<Confidence>{"lambda", &Confidence::lambda, kAboveZero, kInfinity,
                            "weight of -log c in the first step", "the authors' code"},
      Parameter<Confidence>{"budget", &Confidence::budget, 0, kInfinity,
                            "mean of -log c that lambda steers to; 0: lambda stays", "the paper"},
      Parameter<Confidence>{"hints", &Confidence::hints, 0, 1,
                            "share of the batch that may get a hint", "the paper"},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  at::Tensor draw(Tensors in, const Event& event) const;  // hint: where the label may be mixed in
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
};

namespace nn {
using ConfidenceLoss = Criterion<PlainOptions<Confidence>>;
}
}  // namespace ood
