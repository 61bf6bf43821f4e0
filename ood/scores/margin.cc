#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>

#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct Margin {
  static constexpr ScoreCard kCard{
      .name = "margin",
      .class_name = "Margin",
      .summary = "How far the likeliest class is ahead of the second.",
      .formula = "p_2 - p_1, the largest two of softmax(f)",
      .paper =
          "Scheffer, Decomain, Wrobel: Active Hidden Markov Models for Information "
          "Extraction, IDA 2001 (the margin of active learning)",
      .uses = ScoreCard::kLogits,
  };
  at::Tensor compute(const NetworkOutput& o, Tensors) const { return margin_score(o.logits); }
};
OOD_REGISTER_SCORE(Margin);

at::Tensor margin_score(const at::Tensor& logits) {
  const auto dim = class_dim(logits);
  TORCH_CHECK_VALUE(logits.size(dim) >= 2, "margin: expected at least 2 classes, got ",
                    logits.size(dim));
  const auto top = std::get<0>(ops::widened(logits).softmax(dim).topk(2, dim));
  return top.select(dim, 1) - top.select(dim, 0);
}

}  // namespace ood
