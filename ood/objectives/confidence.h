#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// Learned confidence: the network says how sure it is, c = sigmoid(u), and may ask for the label.
///
///   q = c p_y + (1 - c),   ID: -log q + lambda (-log c)
///
/// For about half of each batch the label is not given (q = p_y), so that the classifier still
/// learns; lambda follows a budget for -log c. OOD rows take no part; mean over the ID rows.
struct Confidence {
  static constexpr std::string_view kName = "confidence";
  static constexpr std::string_view kClassName = "ConfidenceLoss";
  static constexpr std::string_view kSummary =
      "A further output learns the confidence by trading hints for a penalty.";
  static constexpr std::string_view kFormula =
      "c = sigmoid(u);  ID: -log(c p_y + 1 - c) + lambda (-log c), without hint: -log p_y + "
      "lambda (-log c)";
  static constexpr std::string_view kPaper =
      "DeVries, Taylor: Learning Confidence for Out-of-Distribution Detection in Neural Networks, "
      "2018";
  static constexpr std::string_view kScore = "confidence";
  static constexpr std::string_view kOodLabels = "left out";
  static constexpr std::string_view kInput = "logits and the confidence logit";
  static constexpr std::string_view kPitfalls =
      "The confidence is given before the sigmoid. The paper also perturbs test inputs; the score "
      "here does not.";
  static constexpr auto kTerms = std::array<std::string_view, 2>{"nll", "confidence"};
  static constexpr std::int64_t kFurtherOutputs = 1;
  static constexpr bool kUsesOod = false;
  static constexpr Balance kBalance = Balance::kPerPopulation;

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
};

/// logits [N, C], confidence_logit [N] before the sigmoid, target [N] (< 0: left out), lambda a
/// scalar tensor, hint [N] of bool (true: the label may be mixed in; absent: all). Finite for every
/// confidence. A ValueError names a shape that does not fit.
at::Tensor confidence_loss(const at::Tensor& logits, const at::Tensor& confidence_logit,
                           const at::Tensor& target, const at::Tensor& lambda,
                           const std::optional<at::Tensor>& hint, std::string_view reduction);

/// The mean of the same over ID rows, of a confidence after the sigmoid that is kept at least eps
/// off 0. Without hints.
at::Tensor confidence_loss_of_probability(const at::Tensor& logits, const at::Tensor& confidence,
                                          const at::Tensor& target, const at::Tensor& lambda,
                                          double eps);

/// The terms of it, [N] each: nll and -log c, 0 for rows without a label.
std::pair<at::Tensor, at::Tensor> confidence_terms(const at::Tensor& logits,
                                                   const at::Tensor& confidence_logit,
                                                   const at::Tensor& target,
                                                   const std::optional<at::Tensor>& hint);

/// After the step: lambda / 1.01 where the budget is above the mean of -log c, else lambda / 0.99.
void confidence_budget_(at::Tensor& lambda, const at::Tensor& mean_confidence, double budget);

}  // namespace ood
