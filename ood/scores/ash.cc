#include "ood/scores/activation.h"

namespace ood {

struct Ash {
  static constexpr ScoreCard kCard{
      .name = "ash",
      .class_name = "ASH",
      .summary = "Energy of the largest activations, sharpened (ASH-S).",
      .formula = "-logsumexp(W r z~ + b), z~ the largest z and else 0, r = exp(sum z / sum z~)",
      .paper =
          "Djurisic, Bozanic, Ashok, Liu: Extremely Simple Activation Shaping for "
          "Out-of-Distribution Detection, ICLR 2023",
      .pitfalls = "Made for activations of a ReLU; features below 0 are refused.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  double percentile = 0.65;

  static constexpr auto kParameters = std::array{
      Parameter<Ash>{"percentile", &Ash::percentile, 0, 1,
                     "share of the activations that is dropped", "pytorch-ood; the paper's lowest"},
  };
  static constexpr auto kState = std::array<std::string_view, 2>{"weight", "bias"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    activation::check_not_negative("ash", data.least());
    return data.head();
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto z = o.features.to(at::kDouble);
    const auto [largest, index] = z.topk(activation::kept(z.size(1), percentile), 1);
    const auto pruned = at::zeros_like(z).scatter(1, index, largest);
    return activation::energy(pruned * activation::sharpening(z, largest), state);
  }
};
OOD_REGISTER_SCORE(Ash);

}  // namespace ood
