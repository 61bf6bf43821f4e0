#pragma once

#include <ATen/TensorOperators.h>

#include "ood/scores/fit_data.h"
#include "ood/scores/gaussian.h"
#include "ood/scores/register.h"

namespace ood {

/// What the scores of Mahalanobis' distance to classes share: their parameters, and what they learn.
struct Mahalanobis {
  double ridge = gaussian::kRidge;
  static constexpr auto kState = std::array<std::string_view, 2>{"whitening", "means"};

  std::vector<at::Tensor> fit_rows(std::string_view score, const FitData& data,
                                   bool normalize) const {
    const Moments& m = data.moments(normalize);
    const auto w = gaussian::whitening(score, m.within, m.mean, ridge, data.rows(), data.classes());
    return {w, m.means.mm(w.t())};
  }
};

/// The entry of the ridge in the table of such a score.
template <class S>
constexpr Parameter<S> ridge_parameter() {
  return {"ridge",
          &S::ridge,
          0,
          gaussian::kMaxRidge,
          "times the mean variance is added to every variance",
          "small beside every variance that float32 features resolve"};
}

}  // namespace ood
