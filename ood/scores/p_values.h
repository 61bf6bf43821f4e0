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

/// Logarithms of p-values that do not end at 1 / (1 + M): the highest tenth of the held-out scores, ten at least,
/// m of them above u, is continued by an exponential tail of their mean excess e,
///
///   s > u:  p = (1 + m) / (1 + M) exp(-(s - u) / e)
///
/// down to exp(-10) / (1 + M), so that no member outvotes all others where its tail is another one.
/// They are no guarantee of their own. A score made of them ranks and is given a threshold, where of
/// few held-out scores the plain ones would tie and accept everything.
at::Tensor log_tail_p_values(const at::Tensor& scores, const at::Tensor& held_out);

enum class Join {
  kFisherTail,         ///< -2 sum log p, p continued by a tail
  kFisher,             ///< -2 sum log p
  kBonferroni,         ///< -m min p
  kBenjaminiHochberg,  ///< -min over i of m p_(i) / i, p_(1) <= ... <= p_(m)
};
/// "fisher_tail", "fisher", "bonferroni" or "benjamini_hochberg"; a c10::ValueError names them.
Join parse_join(std::string_view name);

/// Scores [N] of several members joined through their p-values among `held_out`, a tensor for each,
/// float64 [N], higher for OOD (Fisher 1925; Magesh, Veeravalli, Roy, Jha, arXiv 2206.09522). The
/// held-out data define the joint score: a threshold of it needs further ones.
at::Tensor joint_score(Tensors scores, Tensors held_out, Join join);

}  // namespace ood
