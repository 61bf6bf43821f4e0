#include "ood/scores/mahalanobis.h"

namespace ood {

struct Rmds : Mahalanobis {
  static constexpr ScoreCard kCard{
      .name = "rmds",
      .class_name = "RMDS",
      .summary = "Mahalanobis' distance to the nearest class, less that to all training data.",
      .formula = "min_c d(z, mu_c; S) - d(z, mu; S_0), S_0 around the mean of all rows",
      .paper =
          "Ren et al.: A Simple Fix to Mahalanobis Distance for Improving Near-OOD "
          "Detection, 2021; of normalised features: Mueller, Hein, ICML 2025",
      .pitfalls =
          "Far from all training data both distances are large and their difference says "
          "little: join it with a distance.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kLabels,
  };
  bool normalize = true;

  static constexpr auto kParameters = std::array{
      Parameter<Rmds>{"normalize", &Rmds::normalize, 0, 1, "of features divided by their norms",
                      "Mahalanobis++; the first paper does not"},
      ridge_parameter<Rmds>(),
  };
  static constexpr auto kState =
      std::array<std::string_view, 4>{"whitening", "means", "background_whitening", "mean"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    TORCH_CHECK_VALUE(data.classes() >= 2, "rmds: expected at least 2 classes, got ",
                      data.classes());
    auto state = fit_rows("rmds", data, normalize);
    const Moments& m = data.moments(normalize);
    const auto w = gaussian::whitening("rmds", m.total, m.mean, ridge, data.rows(), 1);
    state.push_back(w);
    state.push_back(m.mean.unsqueeze(0).mm(w.t()));
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    auto z = o.features.to(at::kDouble);
    if (normalize) z = unit_rows(z);
    return gaussian::distances(z, state[0], state[1]).amin(1) -
           gaussian::distances(z, state[2], state[3]).squeeze(1);
  }
};
OOD_REGISTER_SCORE(Rmds);

}  // namespace ood
