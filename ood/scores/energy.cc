#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct Energy {
  static constexpr ScoreCard kCard{
      .name = "energy",
      .class_name = "Energy",
      .summary = "The free energy of the logits.",
      .formula = "-logsumexp(f)",
      .paper = "Liu, Wang, Owens, Li: Energy-based Out-of-distribution Detection, NeurIPS 2020",
      .uses = ScoreCard::kLogits,
  };
  at::Tensor compute(const NetworkOutput& o, Tensors) const { return energy_score(o.logits); }
};
OOD_REGISTER_SCORE(Energy);

at::Tensor energy_score(const at::Tensor& logits) {
  return ops::widened(logits).logsumexp(class_dim(logits)).neg();
}

}  // namespace ood
