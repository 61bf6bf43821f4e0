#include <ATen/TensorOperators.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "ood/scores/fit_data.h"
#include "ood/scores/logits.h"
#include "ood/scores/register.h"

namespace ood {

struct Temperature {
  static constexpr ScoreCard kCard{
      .name = "temperature",
      .class_name = "TemperatureScaled",
      .summary = "Maximum softmax probability, its temperature by held-out likelihood.",
      .formula = "-max softmax(f / T), T least negative log-likelihood of held-out ID data",
      .paper = "Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017",
      .pitfalls =
          "Where every held-out sample is classified right the likelihood has no optimum; "
          "T stays at or above 0.01.",
      .uses = ScoreCard::kLogits,
      .fit = ScoreCard::kHeldOut,
  };
  static constexpr auto kState = std::array<std::string_view, 1>{"temperature"};

  // With b = 1 / T: NLL(b) = mean logsumexp(b f) - b f_y is convex, NLL' = mean E_p f - f_y,
  // NLL'' = mean Var_p f. Newton's step where it stays in the bracket, else its middle.
  std::vector<at::Tensor> fit(const FitData& data) const {
    const auto f = data.held_out_logits.to(at::kDouble);
    const auto own = f.gather(1, data.held_out_labels.unsqueeze(1)).squeeze(1);
    double low = 0.01, high = 100, b = 1;
    for (int i = 0; i < 100 && high / low > 1 + 1e-14; ++i) {
      const auto p = (f * b).softmax(1);
      const auto mean = (p * f).sum(1);
      const double slope = (mean - own).mean().item<double>();
      const double curve = ((p * f.square()).sum(1) - mean.square()).mean().item<double>();
      (slope > 0 ? high : low) = b;
      const double newton = b - slope / curve;
      const double next = newton > low && newton < high ? newton : std::sqrt(low * high);
      if (std::abs(next - b) <= 1e-12 * b) break;
      b = next;
    }
    return {at::tensor(1 / b, at::kDouble)};
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return msp_score(o.logits.to(at::kDouble) / state[0]);
  }
};
OOD_REGISTER_SCORE(Temperature);

}  // namespace ood
