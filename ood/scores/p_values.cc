#include "ood/scores/p_values.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cmath>

namespace ood {

at::Tensor p_values(const at::Tensor& scores_in, const at::Tensor& held_out_in) {
  const auto scores = scores_in.to(at::kDouble), held_out = held_out_in.to(at::kDouble);
  TORCH_CHECK_VALUE(held_out.dim() == 1 && held_out.size(0) > 0,
                    "p_values: expected scores of held-out ID data [M], got ", held_out.sizes());
  const auto bad = scores.isnan().nonzero();
  TORCH_CHECK_VALUE(bad.numel() == 0, "p_values: expected scores, got NaN in row ",
                    bad.numel() > 0 ? bad[0][0].item<std::int64_t>() : 0);
  TORCH_CHECK_VALUE(!held_out.isnan().any().item<bool>(),
                    "p_values: expected held-out scores, got NaN");
  const auto sorted = std::get<0>(held_out.sort());
  const auto below = at::searchsorted(sorted, scores.contiguous());  // how many are lower
  const auto m = static_cast<double>(sorted.size(0));
  return (m + 1.0 - below.to(at::kDouble)) / (m + 1.0);
}

namespace {

// How far below the least plain p-value a tail goes, as a logarithm.
constexpr double kTailDepth = 10;

}  // namespace

at::Tensor log_tail_p_values(const at::Tensor& scores_in, const at::Tensor& held_out_in) {
  const auto plain = p_values(scores_in, held_out_in).log();
  const auto scores = scores_in.to(at::kDouble);
  const auto sorted = std::get<0>(held_out_in.to(at::kDouble).sort());
  const auto n = sorted.size(0);
  const std::int64_t m = std::max<std::int64_t>(n / 10, std::min<std::int64_t>(n - 1, 10));
  if (m < 1) return plain;
  const auto u = sorted[n - m - 1];
  const double excess = (sorted.slice(0, n - m) - u).mean().item<double>();
  if (!(excess > 0) || !std::isfinite(excess)) return plain;
  const double start = std::log(static_cast<double>(1 + m) / static_cast<double>(1 + n));
  const double least = -std::log(static_cast<double>(1 + n)) - kTailDepth;
  return at::where(scores.gt(u), (start - (scores - u) / excess).clamp_min(least), plain);
}

Join parse_join(std::string_view name) {
  if (name == "fisher_tail") return Join::kFisherTail;
  if (name == "fisher") return Join::kFisher;
  if (name == "bonferroni") return Join::kBonferroni;
  if (name == "benjamini_hochberg") return Join::kBenjaminiHochberg;
  C10_THROW_ERROR(
      ValueError,
      c10::str("joint: expected fisher_tail, fisher, bonferroni or benjamini_hochberg, got ",
               name));
}

at::Tensor joint_score(Tensors scores, Tensors held_out, Join join) {
  TORCH_CHECK_VALUE(!scores.empty() && scores.size() == held_out.size(),
                    "joint: expected held-out scores for each of ", scores.size(), " members, got ",
                    held_out.size());
  std::vector<at::Tensor> all;
  for (std::size_t i = 0; i < scores.size(); ++i)
    all.push_back(join == Join::kFisherTail ? log_tail_p_values(scores[i], held_out[i])
                                            : p_values(scores[i], held_out[i]));
  if (join == Join::kFisherTail) return -2.0 * at::stack(all, 1).sum(1);
  const auto p = at::stack(all, 1);  // [N, m]
  const auto m = static_cast<double>(scores.size());
  if (join == Join::kFisher) return -2.0 * p.log().sum(1);
  if (join == Join::kBonferroni) return -m * p.amin(1);
  const auto rank = at::arange(1, m + 1, p.options());
  return -m * (std::get<0>(p.sort(1)) / rank).amin(1);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("p_values(Tensor scores, Tensor held_out) -> Tensor", p_values);
  m.def("joint_score(Tensor[] scores, Tensor[] held_out, str method='fisher_tail') -> Tensor",
        [](Tensors scores, Tensors held_out, std::string_view method) {
          return joint_score(scores, held_out, parse_join(method));
        });
}

}  // namespace ood
