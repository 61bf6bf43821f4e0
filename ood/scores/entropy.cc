#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct Entropy {
  static constexpr ScoreCard kCard{
      .name = "entropy",
      .class_name = "Entropy",
      .summary = "Entropy of the softmax.",
      .formula = "-sum_k p_k log p_k, p = softmax(f)",
      .paper =
          "Chan, Rottmann, Gottschalk: Entropy Maximization and Meta Classification for "
          "Out-of-Distribution Detection in Semantic Segmentation, ICCV 2021",
      .uses = ScoreCard::kLogits,
  };
  at::Tensor compute(const NetworkOutput& o, Tensors) const { return entropy_score(o.logits); }
};
OOD_REGISTER_SCORE(Entropy);

// p log p of a probability of 0 is 0, also of a masked logit of minus infinity.
at::Tensor entropy_score(const at::Tensor& logits) {
  const auto dim = class_dim(logits);
  const auto log_p = ops::widened(logits).log_softmax(dim);
  const auto p = log_p.exp();
  return (p * at::where(p.eq(0), at::zeros_like(p), log_p)).sum(dim).neg();
}

}  // namespace ood
