#include <ATen/TensorOperators.h>

#include "ood/scores/register.h"

namespace ood {

struct Gen {
  static constexpr ScoreCard kCard{
      .name = "gen",
      .class_name = "GEN",
      .summary = "Generalised entropy of the largest probabilities.",
      .formula = "sum over the M largest p of (p (1 - p))^gamma",
      .paper =
          "Liu, Lochman, Zach: GEN: Pushing the Limits of Softmax-Based Out-of-Distribution "
          "Detection, CVPR 2023",
      .pitfalls =
          "1 - p is computed from the other logits: of a rounded p it would be 0 for all "
          "sure inputs.",
      .uses = ScoreCard::kLogits,
  };
  double gamma = 0.1;
  std::int64_t top = 100;

  static constexpr auto kParameters = std::array{
      Parameter<Gen>{"gamma", &Gen::gamma, kAboveZero, 1, "exponent", "the paper"},
      Parameter<Gen>{"top", &Gen::top, 1, 1e9, "how many of the largest probabilities, M",
                     "the paper on ImageNet; all where there are fewer classes"},
  };

  // p (1 - p) = p sum of the others; with o = logsumexp of the others, 1 - p = e^(o - lse), where
  // o = lse + log(1 - p) is only needed where p is near 1: there of the largest logit alone.
  at::Tensor compute(const NetworkOutput& o, Tensors) const {
    const auto x = o.logits.to(at::kDouble);
    const auto sorted = std::get<0>(x.sort(1, /*descending=*/true));
    const auto lse = x.logsumexp(1, true);
    const auto p = (sorted - lse).exp();
    auto rest = 1.0 - p;
    if (x.size(1) > 1)
      rest.select(1, 0).copy_((sorted.slice(1, 1).logsumexp(1) - lse.squeeze(1)).exp());
    else
      rest.zero_();
    const auto m = std::min(top, x.size(1));
    return (p * rest).slice(1, 0, m).pow(gamma).sum(1);
  }
};
OOD_REGISTER_SCORE(Gen);

}  // namespace ood
