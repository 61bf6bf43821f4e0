#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// LogitNorm: cross-entropy of logits scaled to norm 1 / tau, so that a network cannot lower its
/// loss by growing its logits. OOD rows take no part.
///
///   ID:  nll(w, y),  w = x / (tau (||x|| + 1e-7));  at x = 0: w = 0 and the gradient is 0
///
/// The loss cannot fall below log(1 + (C - 1) exp(-sqrt(C / (C - 1)) / tau)): with tau = 1 and ten
/// classes that is 1.42. The default is a value for ten classes; its author says that tau should
/// shrink with the number of classes and recommends 0.0085 for 100.
/// Shapes: logits [B, C] or [B, C, ...], target [B] or [B, ...] of int64.
struct LogitNorm {
  static constexpr Card kCard{
      .name = "logit_norm",
      .class_name = "LogitNorm",
      .summary = "Cross-entropy of logits with a fixed norm.",
      .formula = "ID: logsumexp(w) - w[y],  w = x / (tau (||x|| + 1e-7))",
      .paper =
          "Wei et al.: Mitigating Neural Network Overconfidence with Logit Normalization, ICML "
          "2022",
      .score = "msp",
      .ood_labels = "left out",
      .pitfalls = "The gradient at x = 0 is 0: a last layer that starts at zeros stays there.",
      // Of 0.1 and 0.2 the one with the better held-out accuracy where the data are few.
      .learning_rate = 0.2,
  };
  static constexpr auto kTerms = std::array<std::string_view, 1>{"logit_norm"};
  static constexpr unsigned kUses = kNll;
  static constexpr auto kExclusions =
      std::array{Exclusion{"masked_class", "the norm of a row with a class at -inf is infinite"}};

  double tau = 0.04;

  static constexpr auto kParameters = std::array{
      Parameter<LogitNorm>{"tau", &LogitNorm::tau, kAboveZero, kInfinity, "temperature",
                           "CIFAR-10 value of the OpenOOD benchmark; a value for ten classes"},
  };

  template <class Number>
  auto scale(const Number& sqnorm) const {
    return where(above_zero(sqnorm), 1.0 / (tau * (root(sqnorm) + 1e-7)), 0.0);
  }

  template <class Row, class Known>
  auto operator()(const Row& row, const Known&) const {
    return terms(row.nll());
  }

  /// A temperature whose smallest possible loss is above half of log C.
  std::vector<std::string> check(Tensors in) const;
};

namespace nn {
struct LogitNormOptions : LossOptions<LogitNormOptions, LogitNorm> {
  OOD_OPTION(tau)
};
using LogitNormLoss = Criterion<LogitNormOptions>;
namespace functional {
inline constexpr LossFunction<LogitNormOptions> logit_norm;
}
}  // namespace nn
}  // namespace ood
