// The score that docs/adding-a-score.md explains.
#include <ATen/ops/linalg_vector_norm.h>

#include "ood/scores/fit_data.h"
#include "ood/scores/register.h"

namespace ood {

struct Norm {
  static constexpr ScoreCard kCard{
      .name = "norm",        // of the command line and the report
      .class_name = "Norm",  // in Python
      .summary = "How small the features are beside their mean norm.",
      .formula = "m - ||z||, m the mean norm of the training features",
      .paper = "...",
      .uses = ScoreCard::kFeatures,  // what it is computed of
      .fit = ScoreCard::kFeatures,   // what it is fitted to; leave it out where it learns nothing
  };
  double p = 2;  // parameters: real, whole or flag, with range, help and source

  static constexpr auto kParameters =
      std::array{Parameter<Norm>{"p", &Norm::p, 1, 1e3, "of the norm", "Euclid"}};
  static constexpr auto kState = std::array<std::string_view, 1>{"mean"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    return {at::linalg_vector_norm(data.features.to(at::kDouble), p, at::IntArrayRef{1}).mean()};
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return state[0] - at::linalg_vector_norm(o.features.to(at::kDouble), p, at::IntArrayRef{1});
  }
};
OOD_REGISTER_SCORE(Norm);

}  // namespace ood
