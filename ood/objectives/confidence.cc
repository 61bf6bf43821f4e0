#include "ood/objectives/confidence.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>

#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/logistic.h"
#include "ood/ops/row_numbers.h"
#include "ood/ops/row_terms.h"
#include "ood/ops/row_values.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(Confidence);

namespace {

enum { kLogits, kConfidence, kLabels, kLambda, kHint };  // of the inputs; the last may be missing

void check(Tensors in) {
  const auto rows = in[kLabels].sym_sizes();
  TORCH_CHECK_VALUE(in[kLogits].dim() == 2, "confidence: expected logits [N, C], got ",
                    in[kLogits].sym_sizes());
  TORCH_CHECK_VALUE(rows.size() == 1 && rows[0] == in[kLogits].sym_size(0),
                    "confidence: expected target [", in[kLogits].sym_size(0), "], got ", rows);
  TORCH_CHECK_VALUE(in[kConfidence].sym_sizes() == rows,
                    "confidence: expected a confidence logit of the target's shape ", rows,
                    ", got ", in[kConfidence].sym_sizes());
  TORCH_CHECK_VALUE(in.size() <= kHint || in[kHint].sym_sizes() == rows,
                    "confidence: expected hint of the target's shape ", rows, ", got another");
  ops::check_one_number(in[kLambda], "confidence", "lambda_");
}

/// What a row adds to either term, and the derivatives.
struct Row {
  double mixed, penalty;            // -log q, -log c
  double by_nll;                    // of the first
  double mixed_by_c, penalty_by_c;  // by the confidence as it was given
};

// row_of(i, nll, hinted) for every ID row.
template <class F, class RowOf>
Parts parts_of(Tensors in, bool sum, std::int64_t wanted, const RowOf& row_of) {
  const auto target = in[kLabels].contiguous();
  const ops::RowNumbers rows(in[kLogits], target, "confidence", /*uses_ood=*/false);
  const std::int64_t n = target.numel();
  const double scale = ops::mean_factor(sum, rows.known);
  const auto hints = in.size() > kHint ? in[kHint].to(at::kBool).contiguous() : at::Tensor();
  const auto upstream = at::zeros({2, n}, rows.nll.options());
  const auto to_confidence = at::zeros(in[kConfidence].sizes(), rows.nll.options());
  const F* nll = rows.nll.const_data_ptr<F>();
  const auto* y = target.const_data_ptr<std::int64_t>();
  const bool* hint = hints.defined() ? hints.const_data_ptr<bool>() : nullptr;
  const double lambda = *in[kLambda].const_data_ptr<F>();
  F *to_nll = upstream.mutable_data_ptr<F>(), *to_c = to_confidence.mutable_data_ptr<F>();
  double mixed = 0, penalty = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (y[i] < 0) continue;
    const Row row = row_of(i, nll[i], hint == nullptr || hint[i]);
    mixed += row.mixed;
    penalty += row.penalty;
    to_nll[i] = static_cast<F>(scale * row.by_nll);
    to_c[i] = static_cast<F>(scale * (row.mixed_by_c + lambda * row.penalty_by_c));
  }
  Parts parts{{scale * mixed, scale * lambda * penalty}, std::vector<at::Tensor>(in.size())};
  if (ops::wants(wanted, kLogits)) parts.gradients[kLogits] = rows.gradient(upstream);
  if (ops::wants(wanted, kConfidence)) parts.gradients[kConfidence] = to_confidence;
  if (ops::wants(wanted, kLambda))
    parts.gradients[kLambda] = ops::scalar<F>(scale * penalty, rows.nll).view(in[kLambda].sizes());
  return parts;
}

// Values of a batch that lie in [0, 1] throughout and not near 0, as those of a fresh layer would.
template <class F>
bool looks_like_probability(const F* u, std::int64_t n) {
  constexpr std::int64_t kEnough = 16;
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(u[i] >= 0 && u[i] <= 1)) return false;
    sum += u[i];
  }
  return n >= kEnough && sum > 0.3 * static_cast<double>(n);
}

}  // namespace

std::vector<at::Tensor> Confidence::start(const Sizes&) const {
  return {at::scalar_tensor(lambda)};
}

at::Tensor Confidence::draw(Tensors in, const Event&) const {
  if (hints >= 1) return {};
  // On the CPU: the same draws for any device.
  const auto& labels = in[kLabels];
  const bool there = !labels.is_cpu() && !labels.is_meta();
  const auto options = labels.options().dtype(at::kFloat);
  return at::rand_symint(labels.sym_sizes(), there ? options.device(at::kCPU) : options)
      .lt(hints)
      .to(labels.device(), /*non_blocking=*/true);
}

// -log(c p_y + 1 - c) without forming c, which rounds to 0 or 1.
std::vector<Term> Confidence::composite(Tensors in) const {
  check(in);
  const auto nll = cross_entropy(in[kLogits], in[kLabels], "none");
  const auto log_c = at::log_sigmoid(in[kConfidence]);
  auto mixed = -at::logaddexp(at::log_sigmoid(-in[kConfidence]), log_c - nll);
  if (in.size() > kHint) mixed = at::where(in[kHint].to(at::kBool), mixed, nll);
  const auto known = in[kLabels].ge(0);
  return {{0, mixed, known}, {1, -in[kLambda].reshape({}) * log_c, known}};
}

// With q = sigmoid(u) e^-nll + sigmoid(-u):
//
//   -log q = softplus(u) - softplus(u - nll)    d/d nll = sigmoid(u - nll)
//                                               d/du = sigmoid(u) - sigmoid(u - nll)
//   -log c = softplus(-u)                       d/du = -sigmoid(-u)
Parts Confidence::parts(Tensors in, bool sum, std::int64_t wanted) const {
  check(in);
  const auto confidence = in[kConfidence].contiguous();
  return ops::by_type(confidence, "confidence_loss", [&](auto zero) {
    using F = decltype(zero);
    const F* u = confidence.const_data_ptr<F>();
    if (looks_like_probability(u, confidence.numel())) {
      TORCH_WARN_ONCE(
          "confidence: all confidence logits of the batch lie in [0, 1], as after a sigmoid; they "
          "are wanted before it: leave the sigmoid out of the network");
    }
    return parts_of<F>(in, sum, wanted, [&](std::int64_t i, double nll, bool hinted) -> Row {
      const ops::Logistic own(u[i]), less(u[i] - nll);
      if (!hinted) return {nll, own.softplus_minus, 1, 0, -own.sigmoid_minus};
      return {own.softplus - less.softplus, own.softplus_minus, less.sigmoid,
              own.sigmoid - less.sigmoid, -own.sigmoid_minus};
    });
  });
}

void Confidence::update(Tensors in, Tensors state, const Event& event) const {
  if (event.kind != Event::kStep || budget == 0) return;
  const auto u = ops::widened(in[kConfidence]);
  const auto known = in[kLabels].ge(0);
  const auto penalty = at::softplus(-u);
  const auto mean =
      at::where(known, penalty, at::zeros_like(penalty)).sum() / known.sum().clamp_min(1);
  const auto moved = at::where(mean.lt(budget), state[0] / 1.01, state[0] / 0.99);
  // A batch without ID rows says nothing of the confidence.
  state[0].copy_(at::where(known.any(), moved, state[0]));
}

void Confidence::readout(const NetworkOutput& output, Tensors, Readout& r) const {
  r.score = output.logits.select(1, -1).neg();
}

namespace {

// The peer's form, of a confidence after the sigmoid that is kept at least eps off 0, no hints:
// q = (1 - c) + c e^-nll:  d -log q / d nll = c e^-nll / q,  d/dc = (1 - e^-nll) / q
std::vector<Term> composite_of_probability(Numbers numbers, Tensors in) {
  check(in);
  const auto nll = cross_entropy(in[kLogits], in[kLabels], "none");
  const auto& c = in[kConfidence];
  const double eps = numbers[0];
  const auto known = in[kLabels].ge(0);
  return {{0, -((1.0 - c) + c * at::exp(-nll)).clamp(eps, 1.0).log(), known},
          {1, -in[kLambda].reshape({}) * c.clamp(eps, 1.0).log(), known}};
}

Parts parts_of_probability(Numbers numbers, Tensors in, bool sum, std::int64_t wanted) {
  check(in);
  const auto confidence = in[kConfidence].contiguous();
  return ops::by_type(confidence, "confidence_loss", [&](auto zero) {
    using F = decltype(zero);
    const F* given = confidence.const_data_ptr<F>();
    const double eps = numbers[0];
    // log of x kept within [eps, 1], and its derivative there.
    const auto log_of = [&](double x, double& derivative) {
      derivative = x < eps || x > 1 ? 0 : 1 / x;
      return std::log(std::clamp(x, eps, 1.0));
    };
    return parts_of<F>(in, sum, wanted, [&](std::int64_t i, double nll, bool) -> Row {
      const double c = given[i], p = std::exp(-nll);
      double by_q = 0, by_c = 0;
      const double log_q = log_of((1 - c) + c * p, by_q), log_c = log_of(c, by_c);
      return {-log_q, -log_c, by_q * c * p, by_q * -std::expm1(-nll), -by_c};
    });
  });
}

constexpr ops::DirectLoss kOfProbability{
    "confidence_loss_of_probability", 4, 2, 1, 2, composite_of_probability, parts_of_probability};
[[maybe_unused]] const bool registered = ops::register_direct_loss(kOfProbability);

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "confidence_loss_of_probability(Tensor logits, Tensor confidence, Tensor target, "
      "Tensor lambda_, float eps=1e-24) -> Tensor",
      [](const at::Tensor& logits, const at::Tensor& confidence, const at::Tensor& target,
         const at::Tensor& lambda, double eps) {
        return ops::direct_loss(kOfProbability, std::vector{logits, confidence, target, lambda},
                                {eps}, Reduction::kMean)
            .loss;
      },
      {at::Tag::pt2_compliant_tag});
}

}  // namespace ood
