#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <numeric>

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
          "Where the likelihood has no optimum, as where all held-out samples are right, T is 1.",
      .uses = ScoreCard::kLogits,
      .fit = ScoreCard::kHeldOut,
  };
  static constexpr auto kState = std::array<std::string_view, 1>{"temperature"};
  static constexpr double kLeast = 0.01, kMost = 1000;  ///< of the range of a row over T

  // With b = 1 / T: NLL(b) = mean logsumexp(b f) - b f_y is convex, NLL' = mean E_p f - f_y,
  // NLL'' = mean Var_p f. Newton's step where it stays in the bracket and is half of the last,
  // else the bracket's middle. f are logits in units of the mean range of a row.
  std::vector<at::Tensor> fit(const FitData& data) const {
    auto logits = data.held_out_logits.to(at::kDouble);
    const double range = (logits.amax(1) - logits.amin(1)).mean().item<double>();
    if (!(range > 0) || !std::isfinite(range)) return {at::tensor(1.0, at::kDouble)};
    logits = (logits / range).contiguous();
    const auto labels = data.held_out_labels.contiguous();
    double low = kLeast, high = kMost, b = 1, last = high;
    for (int i = 0; i < 100 && high / low > 1 + 1e-14; ++i) {
      const auto [slope, curve] = derivatives(logits, labels, b);
      (slope > 0 ? high : low) = b;
      const double newton = b - slope / curve;
      const bool converges = newton > low && newton < high && std::abs(newton - b) <= last / 2;
      const double next = converges ? newton : std::sqrt(low * high);
      last = std::abs(next - b);
      if (std::abs(next - b) <= 1e-12 * b) break;
      b = next;
    }
    const bool has_one = b > kLeast * (1 + 1e-9) && b < kMost * (1 - 1e-9);
    return {at::tensor(has_one ? range / b : 1.0, at::kDouble)};
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    return msp_score(o.logits.to(at::kDouble) / state[0]);
  }

 private:
  // NLL' and NLL''; a dozen tensor operations a step would cost more than the rest of the fit.
  static std::pair<double, double> derivatives(const at::Tensor& logits, const at::Tensor& labels,
                                               double b) {
    const auto n = logits.size(0), k = logits.size(1);
    const auto* f = logits.const_data_ptr<double>();
    const auto* y = labels.const_data_ptr<std::int64_t>();
    std::vector<double> slopes(static_cast<std::size_t>(n)), curves(slopes.size());
    at::parallel_for(0, n, 64, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) {
        const double* row = f + i * k;
        const double own = row[y[i]], most = *std::max_element(row, row + k);
        double sum = 0, first = 0, second = 0;  // of differences to the own logit
        for (std::int64_t j = 0; j < k; ++j) {
          const double e = std::exp(b * (row[j] - most)), off = row[j] - own;
          sum += e;
          first += e * off;
          second += e * off * off;
        }
        const auto at = static_cast<std::size_t>(i);
        slopes[at] = first / sum;
        curves[at] = second / sum - slopes[at] * slopes[at];
      }
    });
    const auto mean = [&](const std::vector<double>& v) {
      return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(n);
    };
    return {mean(slopes), mean(curves)};
  }
};
OOD_REGISTER_SCORE(Temperature);

}  // namespace ood
