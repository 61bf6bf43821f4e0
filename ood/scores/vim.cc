#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>

#include <cmath>

#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

namespace ood {

struct Vim {
  static constexpr ScoreCard kCard{
      .name = "vim",
      .class_name = "ViM",
      .summary = "A virtual logit, the features outside their principal space, against the energy.",
      .formula =
          "a ||N^T (z - o)|| - logsumexp(W z + b), o = -W^+ b, N: eigenvectors of the "
          "smallest eigenvalues, a = sum max f / sum ||N^T (z - o)||",
      .paper =
          "Wang, Li, Feng, Zhang: ViM: Out-Of-Distribution with Virtual-logit Matching, "
          "CVPR 2022",
      .pitfalls = "The principal space must be smaller than the features.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  std::int64_t dimension = 0;
  static constexpr double kLeastShare = 1e-5;  ///< of the residual in the features

  static constexpr auto kParameters = std::array{
      Parameter<Vim>{"dimension", &Vim::dimension, 0, 1e6,
                     "of the principal space; 0: 1000 from 1500 features on, else half of them",
                     "the paper's code"},
  };
  static constexpr auto kState =
      std::array<std::string_view, 5>{"weight", "bias", "origin", "residual_space", "alpha"};

  // Around o the second moment is the covariance and the square of what o is from the mean.
  std::vector<at::Tensor> fit(const FitData& data) const {
    const auto d = data.dimension();
    const auto principal = dimension > 0 ? dimension : d >= 1500 ? 1000 : d / 2;
    TORCH_CHECK_VALUE(principal < d, "vim: expected a dimension below the ", d, " features, got ",
                      principal);
    auto state = data.head();
    const auto origin = at::linalg_pinv(state[0]).mv(state[1]).neg();
    const Spread& m = data.spread(false);
    const auto off = (m.mean - origin).unsqueeze(1);
    const auto vectors = std::get<1>(at::linalg_eigh(m.total + off.mm(off.t())));
    const auto space = vectors.slice(1, 0, d - principal).contiguous();
    const auto type = data.features.scalar_type();
    double logits = 0, residual = 0;
    constexpr std::int64_t kBlock = 4096;
    for (std::int64_t i = 0; i < data.rows(); i += kBlock) {
      const auto end = std::min(i + kBlock, data.rows());
      const auto z = data.features.slice(0, i, end);
      logits += data.head_logits().slice(0, i, end).amax(1).sum(at::kDouble).item<double>();
      residual +=
          at::linalg_vector_norm((z - origin.to(type)).mm(space.to(type)), 2, at::IntArrayRef{1})
              .sum(at::kDouble)
              .item<double>();
    }
    // What rounding leaves of features that lie in the space would be blown up to the logits' size.
    const double size =
        static_cast<double>(data.rows()) *
        std::sqrt(m.total.diagonal().sum().item<double>() + off.square().sum().item<double>());
    TORCH_CHECK_VALUE(residual > kLeastShare * size, "vim: expected features outside a space of ",
                      principal, " dimensions, got none to speak of");
    state.insert(state.end(), {origin, space, at::scalar_tensor(logits / residual, at::kDouble)});
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto z = o.features.to(at::kDouble);
    const auto residual =
        at::linalg_vector_norm((z - state[2]).mm(state[3]), 2, at::IntArrayRef{1});
    return state[4] * residual - through_head(z, state[0], state[1]).logsumexp(1);
  }
};
OOD_REGISTER_SCORE(Vim);

}  // namespace ood
