#include <ATen/TensorOperators.h>

#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct Msp {
  static constexpr ScoreCard kCard{
      .name = "msp",
      .class_name = "MSP",
      .summary = "Maximum softmax probability: how sure the classifier is.",
      .formula = "-max softmax(f)",
      .paper =
          "Hendrycks, Gimpel: A Baseline for Detecting Misclassified and Out-of-Distribution "
          "Examples in Neural Networks, ICLR 2017",
      .pitfalls =
          "In float32 it is exactly 1 for many inputs of a sure network, which then tie; "
          "the program computes it in float64.",
      .uses = ScoreCard::kLogits,
  };
  at::Tensor compute(const NetworkOutput& o, Tensors) const { return msp_score(o.logits); }
};
OOD_REGISTER_SCORE(Msp);

at::Tensor msp_score(const at::Tensor& logits) {
  const auto dim = class_dim(logits);
  return ops::widened(logits).softmax(dim).amax(dim).neg();
}

}  // namespace ood
