#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// VOS with given outliers: a learned logistic layer on a class-weighted log-sum tells ID from OOD.
///
///   s = log sum_k max(0, w_k) exp x_k,   l = W s + b  (two numbers, ID = 1)
///   CE(x, y) over ID rows + alpha CE(l, ID?) over all rows
///
/// w, W and b are trained with the network. One mean over all rows for the second term, as the
/// authors' code has it, or one a population (`balance`).
struct VosReg {
  static constexpr std::string_view kName = "vos_reg";
  static constexpr std::string_view kClassName = "VOSRegLoss";
  static constexpr std::string_view kSummary =
      "A logistic layer on the weighted log-sum of logits learns to tell outliers.";
  static constexpr std::string_view kFormula =
      "s = log sum_k max(0, w_k) exp x_k;  ID: -log p_y;  all: alpha CE(W s + b, ID or OOD)";
  static constexpr std::string_view kPaper =
      "Du et al.: VOS, Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022";
  static constexpr std::string_view kScore = "energy";
  static constexpr std::string_view kOodLabels = "outliers of the logistic layer";
  static constexpr std::string_view kPitfalls =
      "Energy weights that are all at or below 0 leave nothing to learn from.";
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "regularizer"};
  static constexpr bool kUsesOod = true;
  static constexpr Balance kBalance = Balance::kWholeBatch;

  double alpha = 0.1;
  double balance = 0;

  static constexpr auto kParameters = std::array{
      Parameter<VosReg>{"alpha", &VosReg::alpha, 0, kInfinity, "weight of the regularizer",
                        "the authors' code"},
      Parameter<VosReg>{"balance", &VosReg::balance, 0, 1,
                        "1: ID and OOD rows count equally in the regularizer, 0: by number",
                        "0 as in the authors' code; the paper writes two expectations"},
  };
};

/// s of each row: logits [N, C] or [N, C, ...], weights [C] -> [N, ...]. At least log 1e-30, so
/// that weights without a positive one give no NaN.
at::Tensor vos_energy(const at::Tensor& logits, const at::Tensor& weights);

/// CE(W s + b, known) of each row; phi_weight [2], phi_bias [2].
at::Tensor vos_regularizer(const at::Tensor& energy, const at::Tensor& known,
                           const at::Tensor& phi_weight, const at::Tensor& phi_bias);

/// The regularizer of logits [N, C] or [N, C, ...], reduced; `mean` over all rows, or with
/// `balance` over either population.
at::Tensor vos_reduced_regularizer(const at::Tensor& logits, const at::Tensor& target,
                                   const at::Tensor& weights, const at::Tensor& phi_weight,
                                   const at::Tensor& phi_bias, bool balance,
                                   std::string_view reduction);

/// logits [N, C] or [N, C, ...], target [N, ...]; `none` gives CE + alpha CE(l) a row.
at::Tensor vos_reg_loss(const at::Tensor& logits, const at::Tensor& target,
                        const at::Tensor& weights, const at::Tensor& phi_weight,
                        const at::Tensor& phi_bias, double alpha, bool balance,
                        std::string_view reduction);

}  // namespace ood
