#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ood/registry/slice.h"

namespace ood {

/// Conformal p-values, float64 [N], of scores [N] among those of held-out ID data [M]:
///
///   p = (1 + how many held-out scores are >= the score) / (1 + M)
///
/// Of ID data that is exchangeable with the held-out one, at most a share a has p <= a (Vovk,
/// Gammerman, Shafer 2005). A c10::ValueError where nothing is held out or a score is NaN.
at::Tensor p_values(const at::Tensor& scores, const at::Tensor& held_out);

enum class Join {
  kFisher,             ///< -2 sum log p
  kBonferroni,         ///< -m min p
  kBenjaminiHochberg,  ///< -min over i of m p_(i) / i, p_(1) <= ... <= p_(m)
};
/// "fisher", "bonferroni" or "benjamini_hochberg"; a c10::ValueError names them.
Join parse_join(std::string_view name);

/// Scores [N] of several members joined through their p-values among `held_out`, a tensor for each,
/// float64 [N], higher for OOD (Fisher 1925; Magesh, Veeravalli, Roy, Jha, arXiv 2206.09522). The
/// held-out data define the joint score: a threshold of it needs further ones.
at::Tensor joint_score(Tensors scores, Tensors held_out, Join join);

}  // namespace ood
