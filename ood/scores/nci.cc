#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>

#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

namespace ood {

struct Nci {
  static constexpr ScoreCard kCard{
      .name = "nci",
      .class_name = "NCI",
      .summary = "How well features align with the weights of their class, and how large they are.",
      .formula = "-w_m (z - mu) / ||z - mu|| - alpha ||z||_1, m the likeliest class",
      .paper =
          "Liu, Qin: Detecting Out-of-Distribution Through the Lens of Neural Collapse, "
          "CVPR 2025",
      .pitfalls = "pytorch-ood's default of alpha is 0.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  double alpha = 1e-4;

  static constexpr auto kParameters = std::array{
      Parameter<Nci>{"alpha", &Nci::alpha, 0, kInfinity, "weight of the norm", "OpenOOD"},
  };
  static constexpr auto kState = std::array<std::string_view, 3>{"weight", "bias", "mean"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    auto state = data.head();
    state.push_back(data.mean());
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto z = o.features.to(at::kDouble), off = z - state[2];
    const auto own = state[0].index_select(0, through_head(z, state[0], state[1]).argmax(1));
    const auto norm = at::linalg_vector_norm(off, 2, at::IntArrayRef{1});
    const auto aligned = (own * off).sum(1) / at::where(norm.gt(0), norm, 1.0);
    return aligned.neg() - alpha * z.abs().sum(1);
  }
};
OOD_REGISTER_SCORE(Nci);

}  // namespace ood
