#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

/// Outlier scores of a trained network: one number a sample, higher means more likely OOD.
namespace ood {

/// What a network says of a batch.
struct NetworkOutput {
  at::Tensor logits;    ///< [B, C]
  at::Tensor features;  ///< [B, D], the input of the last layer; may be undefined
};

struct Score {
  std::string_view name;
  std::string_view label;  ///< for tables and plots
  std::string_view formula;
  at::Tensor (*compute)(const NetworkOutput&);  ///< [B]
};

/// All scores that need nothing but the network's output.
const std::vector<Score>& scores();

/// The score of that name, or a c10::ValueError that lists the known ones.
const Score& get_score(std::string_view name);

/// Minus the maximum softmax probability (Hendrycks and Gimpel 2017). logits [B, C] -> [B], or
/// [B, C, ...] -> [B, ...]; so for the others.
at::Tensor msp_score(const at::Tensor& logits);
/// Minus the maximum logit (Hendrycks et al. 2022).
at::Tensor max_logit_score(const at::Tensor& logits);
/// The energy -logsumexp (Liu et al. 2020).
at::Tensor energy_score(const at::Tensor& logits);

}  // namespace ood
