#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

namespace ood {

struct Ctm {
  static constexpr ScoreCard kCard{
      .name = "ctm",
      .class_name = "CTM",
      .summary = "Cosine to the mean of the nearest class.",
      .formula = "-max_c cos(z, mu_c)",
      .paper =
          "Ngoc-Hieu et al.: A Cosine Similarity-based Method for Out-of-Distribution "
          "Detection, 2023 (class typical matching)",
      .pitfalls = "A row of zeros has cosine 0 with every class.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kLabels,
  };
  static constexpr auto kState = std::array<std::string_view, 1>{"means"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    return {unit_rows(data.class_means(false))};
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return unit_rows(o.features.to(at::kDouble)).mm(state[0].t()).amax(1).neg();
  }
};
OOD_REGISTER_SCORE(Ctm);

}  // namespace ood
