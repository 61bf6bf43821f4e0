#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// VOS with given outliers: a learned logistic layer on a class-weighted log-sum tells ID from OOD.
///
///   s = log sum_k max(0, w_k) exp x_k,   l = W s + b  (two numbers, ID = 1)
///   CE(x, y) over ID rows + alpha CE(l, ID?) over all rows
///
/// Weights without a positive one give s = log 1e-30 and no gradient. w, W and b are trained with the network. Inputs: logits
/// [N, C] or [N, C, ...], target [N, ...]. One mean over all rows for the second term, as the
/// authors' code has it, or one a population (`balance`).
struct VosReg {
  static constexpr Card kCard{
      .name = "vos_reg",
      .class_name = "VOSRegLoss",
      .summary = "A logistic layer on the weighted log-sum of logits learns to tell outliers.",
      .formula =
          "s = log sum_k max(0, w_k) exp x_k;  ID: -log p_y;  all: alpha CE(W s + b, ID or OOD)",
      .paper =
          "Du et al.: VOS, Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022",
      .score = "energy",
      .ood_labels = "outliers of the logistic layer",
      .pitfalls = "Energy weights that are all at or below 0 leave nothing to learn from.",
      .uses_ood = true,
      .balance = Balance::kWholeBatch,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "regularizer"};
  static constexpr auto kState = std::array{State{.name = "weights", .role = State::kParameter},
                                            State{.name = "phi.weight", .role = State::kParameter},
                                            State{.name = "phi.bias", .role = State::kParameter}};
  static constexpr bool kByClass = true;

  double alpha = 0.1;
  bool balance = false;

  static constexpr auto kParameters = std::array{
      Parameter<VosReg>{"alpha", &VosReg::alpha, 0, kInfinity, "weight of the regularizer",
                        "the authors' code"},
      Parameter<VosReg>{"balance", &VosReg::balance, 0, 1,
                        "ID and OOD rows count equally in the regularizer, not by number",
                        "as in the authors' code; the paper writes two expectations"},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;
};

namespace nn {
using VOSRegLoss = Criterion<PlainOptions<VosReg>>;
}
}  // namespace ood
