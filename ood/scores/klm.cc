#include <ATen/TensorOperators.h>

#include <limits>

#include "ood/ops/distances.h"
#include "ood/scores/fit_data.h"
#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct Klm {
  static constexpr ScoreCard kCard{
      .name = "klm",
      .class_name = "KLM",
      .summary = "Divergence of the softmax from the typical one of the nearest class.",
      .formula = "min_c KL(p || q_c), q_c the mean softmax of the training rows predicted c",
      .paper =
          "Hendrycks et al.: Scaling Out-of-Distribution Detection for Real-World Settings, "
          "ICML 2022 (KL matching)",
      .pitfalls = "Classes that are never predicted are left out.",
      .uses = ScoreCard::kLogits,
      .fit = ScoreCard::kLogits,
  };
  static constexpr auto kState = std::array<std::string_view, 1>{"log_templates"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    const auto p = data.logits.to(at::kDouble).softmax(1);
    const auto [means, counts] = class_means(p, p.argmax(1), p.size(1));
    const auto predicted = counts.gt(0).nonzero().squeeze(1);
    // A probability of 0 has the logarithm of the least number, so that 0 log 0 is 0.
    return {
        means.index_select(0, predicted).log().clamp_min(std::numeric_limits<double>::lowest())};
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    TORCH_CHECK_VALUE(o.logits.size(1) == state[0].size(1), "klm: expected logits [N, ",
                      state[0].size(1), "], as it was fitted to, got ", o.logits.sizes());
    const auto x = o.logits.to(at::kDouble);
    return (-entropy_score(x).unsqueeze(1) - x.softmax(1).mm(state[0].t())).amin(1);
  }
};
OOD_REGISTER_SCORE(Klm);

}  // namespace ood
