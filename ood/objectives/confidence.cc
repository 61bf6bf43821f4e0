#include "ood/objectives/confidence.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/row_numbers.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Confidence);

namespace {

void check(const at::Tensor& logits, const at::Tensor& confidence_logit, const at::Tensor& target,
           const std::optional<at::Tensor>& hint) {
  TORCH_CHECK_VALUE(logits.dim() == 2, "confidence: expected logits [N, C], got ",
                    logits.sym_sizes());
  TORCH_CHECK_VALUE(confidence_logit.sym_sizes() == target.sym_sizes(),
                    "confidence: expected a confidence logit of the target's shape ",
                    target.sym_sizes(), ", got ", confidence_logit.sym_sizes());
  TORCH_CHECK_VALUE(!hint.has_value() || hint->sym_sizes() == target.sym_sizes(),
                    "confidence: expected hint of the target's shape ", target.sym_sizes(),
                    ", got another");
}

}  // namespace

std::pair<at::Tensor, at::Tensor> confidence_terms(const at::Tensor& logits,
                                                   const at::Tensor& confidence_logit,
                                                   const at::Tensor& target,
                                                   const std::optional<at::Tensor>& hint) {
  check(logits, confidence_logit, target, hint);
  const auto nll = cross_entropy(logits, target, "none");
  const auto u = confidence_logit.to(nll.scalar_type());
  // log(c p_y + 1 - c) without forming c, which rounds to 0 or 1.
  const auto log_c = at::log_sigmoid(u);
  auto mixed = -at::logaddexp(at::log_sigmoid(-u), log_c - nll);
  if (hint.has_value()) mixed = at::where(hint->to(at::kBool), mixed, nll);
  const auto known = target.ge(0);
  return {reduce_rows(mixed, known, "none"), reduce_rows(-log_c, known, "none")};
}

namespace {

using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kLogits, kConfidence, kTarget, kLambda, kHint };  // of the inputs; the last may be missing

at::Tensor rows_of_loss(const at::Tensor& logits, const at::Tensor& confidence_logit,
                        const at::Tensor& target, const at::Tensor& lambda,
                        const std::optional<at::Tensor>& hint) {
  const auto [nll, confidence] = confidence_terms(logits, confidence_logit, target, hint);
  return nll + lambda * confidence;
}

at::Tensor composite(Inputs in, Numbers numbers) {
  const auto hint = in.size() > kHint ? std::optional(in[kHint]) : std::nullopt;
  return reduce_rows(rows_of_loss(in[kLogits], in[kConfidence], in[kTarget], in[kLambda], hint),
                     in[kTarget].ge(0), numbers[0] != 0 ? "sum" : "mean");
}

// With a = log sigmoid(u), b = log sigmoid(-u), q = e^b + e^(a - nll) and the share
// s = e^(a - nll) / q of the prediction in it:
//
//   d -log q / d nll = s     d -log q / du = (1 - s) sigmoid(u) - s sigmoid(-u)
//   d -a / du = -sigmoid(-u)
template <class F>
std::vector<at::Tensor> parts_of(Inputs in, bool sum, std::int64_t wanted) {
  const auto target = in[kTarget].to(at::kLong).contiguous();
  const ops::RowNumbers rows(in[kLogits], target);
  const std::int64_t n = target.numel();
  const F scale = F{1} / static_cast<F>(sum ? 1 : std::max<std::int64_t>(rows.known, 1));
  const auto confidence = in[kConfidence].contiguous();
  const auto hints = in.size() > kHint ? in[kHint].to(at::kBool).contiguous() : at::Tensor();
  const auto upstream = at::zeros({2, n}, rows.nll.options());
  auto to_confidence = at::zeros(confidence.sizes(), confidence.options());
  const F *nll = rows.nll.const_data_ptr<F>(), *u = confidence.const_data_ptr<F>();
  const auto* y = target.const_data_ptr<std::int64_t>();
  const bool* hint = hints.defined() ? hints.const_data_ptr<bool>() : nullptr;
  const F lambda = in[kLambda].const_data_ptr<F>()[0];
  F *to_nll = upstream.mutable_data_ptr<F>(), *to_u = to_confidence.mutable_data_ptr<F>();
  double mixed_sum = 0, penalty_sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (y[i] < 0) continue;
    const F e = std::exp(-std::abs(u[i])), soft = std::log1p(e);
    const F a = std::min(u[i], F{0}) - soft, b = std::min(-u[i], F{0}) - soft;
    const F up = (u[i] >= 0 ? F{1} : e) / (1 + e), down = (u[i] >= 0 ? e : F{1}) / (1 + e);
    penalty_sum -= a;
    to_u[i] = -scale * lambda * down;
    if (hint != nullptr && !hint[i]) {
      mixed_sum += nll[i];
      to_nll[i] = scale;
      continue;
    }
    const F t = a - nll[i], d = std::exp(-std::abs(b - t));
    mixed_sum -= std::max(b, t) + std::log1p(d);
    const F share = (t >= b ? F{1} : d) / (1 + d), rest = (t >= b ? d : F{1}) / (1 + d);
    to_nll[i] = scale * share;
    to_u[i] += scale * (rest * up - share * down);
  }
  auto loss = at::empty({}, rows.nll.options());
  *loss.mutable_data_ptr<F>() =
      scale * static_cast<F>(mixed_sum + static_cast<double>(lambda) * penalty_sum);
  std::vector<at::Tensor> parts(in.size() + 1);
  parts[0] = loss;
  if ((wanted >> kLogits & 1) != 0) parts[1 + kLogits] = rows.gradient(upstream);
  if ((wanted >> kConfidence & 1) != 0) parts[1 + kConfidence] = to_confidence;
  if ((wanted >> kLambda & 1) != 0) {
    parts[1 + kLambda] = at::empty({}, rows.nll.options());
    *parts[1 + kLambda].mutable_data_ptr<F>() = scale * static_cast<F>(penalty_sum);
  }
  return parts;
}

std::vector<at::Tensor> parts(Inputs in, Numbers numbers, std::int64_t wanted) {
  return ops::with_type(in[kLogits], "confidence_loss", [&](auto zero) {
    return parts_of<decltype(zero)>(in, numbers[0] != 0, wanted);
  });
}

constexpr ops::DirectLoss kDirect{"confidence_loss", composite, parts};

// u = log c - log(1 - c) of a confidence c after the sigmoid, kept off 0 and 1.
struct Bounds {
  double eps, tiny;
  Bounds(const at::Tensor& confidence, double least)
      : tiny(confidence.scalar_type() == at::kDouble ? std::numeric_limits<double>::min()
                                                     : std::numeric_limits<float>::min()) {
    eps = std::max(least, tiny);
  }
};

at::Tensor composite_of_probability(Inputs in, Numbers numbers) {
  const auto c = ops::widened(in[kConfidence]);
  const Bounds bounds(c, numbers[1]);
  const auto u = c.clamp_min(bounds.eps).log() - (1.0 - c).clamp_min(bounds.tiny).log();
  return composite({in[kLogits], u, in[kTarget], in[kLambda]}, numbers);
}

std::vector<at::Tensor> parts_of_probability(Inputs in, Numbers numbers, std::int64_t wanted) {
  const auto c = in[kConfidence].contiguous();
  auto u = at::empty(c.sizes(), c.options());
  const Bounds bounds(c, numbers[1]);
  ops::by_type(c, "confidence_loss", [&](auto zero) {
    using F = decltype(zero);
    const F *from = c.const_data_ptr<F>(), eps = static_cast<F>(bounds.eps);
    F* to = u.mutable_data_ptr<F>();
    for (std::int64_t i = 0; i < c.numel(); ++i)
      to[i] = std::log(std::max(from[i], eps)) -
              std::log(std::max(1 - from[i], static_cast<F>(bounds.tiny)));
  });
  auto out = parts({in[kLogits], u, in[kTarget], in[kLambda]}, numbers, wanted);
  if (!out[1 + kConfidence].defined()) return out;
  ops::by_type(c, "confidence_loss", [&](auto zero) {
    using F = decltype(zero);
    const F *from = c.const_data_ptr<F>(), eps = static_cast<F>(bounds.eps);
    F* to = out[1 + kConfidence].mutable_data_ptr<F>();
    for (std::int64_t i = 0; i < c.numel(); ++i) {
      const F rest = 1 - from[i];
      to[i] *= (from[i] >= eps ? 1 / from[i] : F{0}) +
               (rest >= static_cast<F>(bounds.tiny) ? 1 / rest : F{0});
    }
  });
  return out;
}

constexpr ops::DirectLoss kOfProbability{"confidence_loss_of_probability", composite_of_probability,
                                         parts_of_probability};
[[maybe_unused]] const bool direct_registered[] = {ops::register_direct_loss(kDirect),
                                                   ops::register_direct_loss(kOfProbability)};

}  // namespace

at::Tensor confidence_loss(const at::Tensor& logits, const at::Tensor& confidence_logit,
                           const at::Tensor& target, const at::Tensor& lambda,
                           const std::optional<at::Tensor>& hint, std::string_view reduction) {
  check(logits, confidence_logit, target, hint);
  if (reduction == "none")
    return reduce_rows(rows_of_loss(logits, confidence_logit, target, lambda, hint), target.ge(0),
                       reduction);
  std::vector<at::Tensor> inputs{logits, confidence_logit, target, lambda};
  if (hint.has_value()) inputs.push_back(*hint);
  return ops::direct_loss(kDirect, inputs, {reduction_is_sum(reduction)});
}

at::Tensor confidence_loss_of_probability(const at::Tensor& logits, const at::Tensor& confidence,
                                          const at::Tensor& target, const at::Tensor& lambda,
                                          double eps) {
  check(logits, confidence, target, std::nullopt);
  return ops::direct_loss(kOfProbability, {logits, confidence, target, lambda}, {0, eps});
}

void confidence_budget_(at::Tensor& lambda, const at::Tensor& mean_confidence, double budget) {
  const at::NoGradGuard no_grad;
  const auto below = mean_confidence.detach().lt(budget);
  lambda.copy_(at::where(below, lambda / 1.01, lambda / 0.99));
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "confidence_loss(Tensor logits, Tensor confidence_logit, Tensor target, Tensor lambda_, "
      "Tensor? hint=None, str reduction='mean') -> Tensor",
      confidence_loss, {at::Tag::pt2_compliant_tag});
  m.def(
      "confidence_loss_of_probability(Tensor logits, Tensor confidence, Tensor target, "
      "Tensor lambda_, float eps=1e-24) -> Tensor",
      confidence_loss_of_probability, {at::Tag::pt2_compliant_tag});
  m.def("confidence_budget_(Tensor(a!) lambda_, Tensor mean_confidence, float budget) -> ()",
        [](const at::Tensor& lambda, const at::Tensor& mean_confidence, double budget) {
          at::Tensor l = lambda;
          confidence_budget_(l, mean_confidence, budget);
        });
}

}  // namespace ood
