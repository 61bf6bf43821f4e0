#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "ood/ops/distances.h"
#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

namespace ood {

struct Fdbd {
  static constexpr ScoreCard kCard{
      .name = "fdbd",
      .class_name = "FDBD",
      .summary = "Mean distance to the decision boundaries, beside that to the mean of the data.",
      .formula = "-mean_{j != m} (f_m - f_j) / ||w_m - w_j|| / ||z - mu||, m the likeliest class",
      .paper = "Liu, Qin: Fast Decision Boundary based Out-of-Distribution Detector, ICML 2024",
      .pitfalls = "Classes of equal weights have no boundary and are left out of the mean.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  static constexpr auto kState =
      std::array<std::string_view, 4>{"weight", "bias", "boundaries", "mean"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    TORCH_CHECK_VALUE(data.classes() >= 2, "fdbd: expected at least 2 classes, got ",
                      data.classes());
    auto state = data.head();
    state.insert(state.end(), {center_distances(state[0], state[0], false), data.mean()});
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    constexpr double kLeastNorm = 1e-8;
    const auto z = o.features.to(at::kDouble);
    const auto f = through_head(z, state[0], state[1]);
    const auto [best, m] = f.max(1);
    const auto norms = state[2].index_select(0, m);
    const auto has = norms.gt(0);
    const auto distances =
        at::where(has, (best.unsqueeze(1) - f) / at::where(has, norms, 1.0), at::zeros_like(f));
    const auto count = has.sum(1).clamp_min(1).to(at::kDouble);
    const auto off =
        at::linalg_vector_norm(z - state[3], 2, at::IntArrayRef{1}).clamp_min(kLeastNorm);
    return distances.sum(1).neg() / (count * off);
  }
};
OOD_REGISTER_SCORE(Fdbd);

}  // namespace ood
