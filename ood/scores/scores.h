#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

#include "ood/registry/slice.h"

/// Outlier scores of a trained network: one number a sample, higher means more likely OOD.
namespace ood {

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

/// A score [N] of what an objective says: its own, where `own` and it has one, else the general one
/// of that name, of the logits of the classes; undefined where it has none.
at::Tensor score_of(const Readout& readout, bool own, std::string_view name,
                    const at::Tensor& features);

/// Minus the maximum softmax probability (Hendrycks and Gimpel 2017). logits [B, C] -> [B], or
/// [B, C, ...] -> [B, ...]; so for the others.
at::Tensor msp_score(const at::Tensor& logits);
/// Minus the maximum logit (Hendrycks et al. 2022).
at::Tensor max_logit_score(const at::Tensor& logits);
/// The energy -logsumexp (Liu et al. 2020).
at::Tensor energy_score(const at::Tensor& logits);

}  // namespace ood
