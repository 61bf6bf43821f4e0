#include "ood/scores/activation.h"

namespace ood {

struct Scale {
  static constexpr ScoreCard kCard{
      .name = "scale",
      .class_name = "SCALE",
      .summary = "Energy of activations scaled by how much of them the largest hold.",
      .formula = "-logsumexp(W r z + b), r = exp(sum z / sum of the largest z)",
      .paper =
          "Xu, Chen, Franchi, Yao: Scaling for Training Time and Post-hoc Out-of-distribution "
          "Detection Enhancement, ICLR 2024",
      .pitfalls = "Made for activations of a ReLU; features below 0 are refused.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  double percentile = 0.85;

  static constexpr auto kParameters = std::array{
      Parameter<Scale>{"percentile", &Scale::percentile, 0, 1,
                       "share of the activations that are not among the largest",
                       "the paper on ImageNet; pytorch-ood's default is 0.65"},
  };
  static constexpr auto kState = std::array<std::string_view, 2>{"weight", "bias"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    activation::check_not_negative("scale", data.least());
    return data.head();
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto z = o.features.to(at::kDouble);
    const auto largest = std::get<0>(z.topk(activation::kept(z.size(1), percentile), 1));
    return activation::energy(z * activation::sharpening(z, largest), state);
  }
};
OOD_REGISTER_SCORE(Scale);

}  // namespace ood
