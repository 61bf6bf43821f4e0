#include "ood/scores/mahalanobis.h"

namespace ood {

struct Mds : Mahalanobis {
  static constexpr ScoreCard kCard{
      .name = "mds",
      .class_name = "MDS",
      .summary = "Mahalanobis' distance to the nearest class.",
      .formula = "min_c (z - mu_c)^T S^-1 (z - mu_c), S around the classes' means",
      .paper =
          "Lee, Lee, Lee, Shin: A Simple Unified Framework for Detecting Out-of-Distribution "
          "Samples and Adversarial Attacks, NeurIPS 2018",
      .pitfalls = "The norm of the features dominates; mds_pp divides by it.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kLabels,
  };
  static constexpr auto kParameters = std::array{
      ridge_parameter<Mds>(),
  };
  std::vector<at::Tensor> fit(const FitData& data) const { return fit_rows("mds", data, false); }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return gaussian::distances(o.features, state[0], state[1]).amin(1);
  }
};
OOD_REGISTER_SCORE(Mds);

}  // namespace ood
