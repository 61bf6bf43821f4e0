#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct MaxLogit {
  static constexpr ScoreCard kCard{
      .name = "max_logit",
      .class_name = "MaxLogit",
      .summary = "The largest logit.",
      .formula = "-max f",
      .paper =
          "Hendrycks et al.: Scaling Out-of-Distribution Detection for Real-World Settings, "
          "ICML 2022",
      .uses = ScoreCard::kLogits,
  };
  at::Tensor compute(const NetworkOutput& o, Tensors) const { return max_logit_score(o.logits); }
};
OOD_REGISTER_SCORE(MaxLogit);

at::Tensor max_logit_score(const at::Tensor& logits) {
  return ops::widened(logits).amax(class_dim(logits)).neg();
}

}  // namespace ood
