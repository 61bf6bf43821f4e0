#include "ood/scores/mahalanobis.h"

namespace ood {

struct MdsPp : Mahalanobis {
  static constexpr ScoreCard kCard{
      .name = "mds_pp",
      .class_name = "MDSPlusPlus",
      .summary = "Mahalanobis' distance to the nearest class, of normalised features.",
      .formula =
          "min_c (z' - mu_c)^T S^-1 (z' - mu_c), z' = z / ||z||, S around the classes' means",
      .paper =
          "Mueller, Hein: Mahalanobis++: Improving OOD Detection via Feature Normalization, "
          "ICML 2025",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kLabels,
  };
  static constexpr auto kParameters = std::array{
      ridge_parameter<MdsPp>(),
  };
  std::vector<at::Tensor> fit(const FitData& data) const { return fit_rows("mds_pp", data, true); }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return gaussian::distances(unit_rows(o.features.to(at::kDouble)), state[0], state[1]).amin(1);
  }
};
OOD_REGISTER_SCORE(MdsPp);

}  // namespace ood
