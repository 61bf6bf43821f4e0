#pragma once

#include "ood/ops/by_type.h"

/// The scores of logits that need no fit, as functions: logits [B, C] -> [B], or [B, C, ...] ->
/// [B, ...]. Half types are computed in float32. The files of the scores have papers and formulas.
namespace ood {

at::Tensor msp_score(const at::Tensor& logits);
at::Tensor max_logit_score(const at::Tensor& logits);
at::Tensor energy_score(const at::Tensor& logits);
at::Tensor entropy_score(const at::Tensor& logits);
at::Tensor margin_score(const at::Tensor& logits);

/// The dimension of the classes.
inline std::int64_t class_dim(const at::Tensor& logits) { return logits.dim() < 2 ? 0 : 1; }

}  // namespace ood
