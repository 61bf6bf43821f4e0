#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>

#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

namespace ood {

struct She {
  static constexpr ScoreCard kCard{
      .name = "she",
      .class_name = "SHE",
      .summary = "Product with the mean of what is classified right as the likeliest class.",
      .formula = "-z s_m, s_c the mean of the training rows of class c that are predicted c",
      .paper =
          "Zhang et al.: Out-of-Distribution Detection based on In-Distribution Data Patterns "
          "Memorization with Modern Hopfield Energy, ICLR 2023",
      .pitfalls = "A class without a row that is classified right takes the mean of all its rows.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kLabels | ScoreCard::kHead,
  };
  static constexpr auto kState = std::array<std::string_view, 3>{"weight", "bias", "patterns"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    const auto right = data.head_logits().argmax(1).eq(data.labels);
    const auto labels = at::where(right, data.labels, at::full_like(data.labels, -1));
    const auto [sums, counts] = class_sums(data.features, labels, data.classes());
    const auto count = counts.unsqueeze(1);
    auto state = data.head();
    state.push_back(at::where(count.gt(0), sums / count, data.class_means(false)));
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto z = o.features.to(at::kDouble);
    const auto m = through_head(z, state[0], state[1]).argmax(1);
    return (z * state[2].index_select(0, m)).sum(1).neg();
  }
};
OOD_REGISTER_SCORE(She);

}  // namespace ood
