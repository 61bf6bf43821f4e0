#include "ood/scores/activation.h"
#include "ood/scores/quantile.h"

namespace ood {

struct React {
  static constexpr ScoreCard kCard{
      .name = "react",
      .class_name = "ReAct",
      .summary = "Energy of activations that are cut off at a percentile.",
      .formula = "-logsumexp(W min(z, c) + b), c a percentile of all training activations",
      .paper =
          "Sun, Guo, Li: ReAct: Out-of-distribution Detection With Rectified Activations, "
          "NeurIPS 2021",
      .pitfalls = "The percentile is over all activations, not one per unit.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  double percentile = 0.9;

  static constexpr auto kParameters = std::array{
      Parameter<React>{"percentile", &React::percentile, 0, 1, "share of activations below the cut",
                       "the paper"},
  };
  static constexpr auto kState = std::array<std::string_view, 3>{"weight", "bias", "cut"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    auto state = data.head();
    state.push_back(at::scalar_tensor(quantile_of(data.features, percentile), state[0].options()));
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return activation::energy(o.features.to(at::kDouble).clamp_max(state[2]), state);
  }
};
OOD_REGISTER_SCORE(React);

}  // namespace ood
