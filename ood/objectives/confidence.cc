#include "ood/objectives/confidence.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/logistic.h"
#include "ood/ops/row_numbers.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Confidence);

namespace {

using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kLogits, kConfidence, kTarget, kLambda, kHint };  // of the inputs; the last may be missing
enum { kSum, kEps };                                     // of the numbers

void check(const at::Tensor& logits, const at::Tensor& confidence_logit, const at::Tensor& target,
           const std::optional<at::Tensor>& hint) {
  TORCH_CHECK_VALUE(logits.dim() == 2, "confidence: expected logits [N, C], got ",
                    logits.sym_sizes());
  TORCH_CHECK_VALUE(target.dim() == 1 && target.sym_size(0) == logits.sym_size(0),
                    "confidence: expected target [", logits.sym_size(0), "], got ",
                    target.sym_sizes());
  TORCH_CHECK_VALUE(confidence_logit.sym_sizes() == target.sym_sizes(),
                    "confidence: expected a confidence logit of the target's shape ",
                    target.sym_sizes(), ", got ", confidence_logit.sym_sizes());
  TORCH_CHECK_VALUE(!hint.has_value() || hint->sym_sizes() == target.sym_sizes(),
                    "confidence: expected hint of the target's shape ", target.sym_sizes(),
                    ", got another");
}

/// What a row adds to either term, and the derivatives.
struct Row {
  double mixed, penalty;            // -log q, -log c
  double by_nll;                    // of the first
  double mixed_by_c, penalty_by_c;  // by the confidence as it was given
};

// row_of(i, nll, hinted) for every ID row.
template <class F, class RowOf>
std::vector<at::Tensor> parts_of(Inputs in, bool sum, std::int64_t wanted, const RowOf& row_of) {
  const auto target = in[kTarget].contiguous();
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
  std::vector<at::Tensor> parts(in.size() + 1);
  parts[0] = ops::scalar<F>(scale * (mixed + lambda * penalty), rows.nll);
  if (ops::wants(wanted, kLogits)) parts[1 + kLogits] = rows.gradient(upstream);
  if (ops::wants(wanted, kConfidence)) parts[1 + kConfidence] = to_confidence;
  if (ops::wants(wanted, kLambda))
    parts[1 + kLambda] = ops::scalar<F>(scale * penalty, rows.nll).view(in[kLambda].sizes());
  return parts;
}

at::Tensor rows_of_loss(const at::Tensor& logits, const at::Tensor& confidence_logit,
                        const at::Tensor& target, const at::Tensor& lambda,
                        const std::optional<at::Tensor>& hint) {
  const auto [nll, confidence] = confidence_terms(logits, confidence_logit, target, hint);
  return nll + lambda.reshape({}) * confidence;
}

at::Tensor composite(Inputs in, Numbers numbers) {
  const auto hint = in.size() > kHint ? std::optional(in[kHint]) : std::nullopt;
  return reduce_rows(rows_of_loss(in[kLogits], in[kConfidence], in[kTarget], in[kLambda], hint),
                     in[kTarget].ge(0), reduction_name(numbers[kSum]));
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

// With q = sigmoid(u) e^-nll + sigmoid(-u):
//
//   -log q = softplus(u) - softplus(u - nll)    d/d nll = sigmoid(u - nll)
//                                               d/du = sigmoid(u) - sigmoid(u - nll)
//   -log c = softplus(-u)                       d/du = -sigmoid(-u)
std::vector<at::Tensor> parts(Inputs in, Numbers numbers, std::int64_t wanted) {
  const auto confidence = in[kConfidence].contiguous();
  return ops::with_type(confidence, "confidence_loss", [&](auto zero) {
    using F = decltype(zero);
    const F* u = confidence.const_data_ptr<F>();
    if (looks_like_probability(u, confidence.numel())) {
      TORCH_WARN_ONCE(
          "confidence: all confidence logits of the batch lie in [0, 1], as after a sigmoid; they "
          "are wanted before it: leave the sigmoid out of the network");
    }
    return parts_of<F>(in, numbers[kSum] != 0, wanted,
                       [&](std::int64_t i, double nll, bool hinted) -> Row {
                         const ops::Logistic own(u[i]), less(u[i] - nll);
                         if (!hinted) return {nll, own.softplus_minus, 1, 0, -own.sigmoid_minus};
                         return {own.softplus - less.softplus, own.softplus_minus, less.sigmoid,
                                 own.sigmoid - less.sigmoid, -own.sigmoid_minus};
                       });
  });
}

at::Tensor composite_of_probability(Inputs in, Numbers numbers) {
  const auto nll = cross_entropy(in[kLogits], in[kTarget], "none");
  const auto c = in[kConfidence].to(nll.scalar_type());
  const auto q = (1.0 - c) + c * at::exp(-nll);
  const double eps = numbers[kEps];
  const auto rows = -q.clamp(eps, 1.0).log() - in[kLambda].reshape({}) * c.clamp(eps, 1.0).log();
  return reduce_rows(rows, in[kTarget].ge(0), reduction_name(numbers[kSum]));
}

// q = (1 - c) + c e^-nll:  d -log q / d nll = c e^-nll / q,  d/dc = (1 - e^-nll) / q
std::vector<at::Tensor> parts_of_probability(Inputs in, Numbers numbers, std::int64_t wanted) {
  const auto confidence = in[kConfidence].contiguous();
  return ops::with_type(confidence, "confidence_loss", [&](auto zero) {
    using F = decltype(zero);
    const F* given = confidence.const_data_ptr<F>();
    const double eps = numbers[kEps];
    // log of x kept within [eps, 1], and its derivative there.
    const auto log_of = [&](double x, double& derivative) {
      derivative = x < eps || x > 1 ? 0 : 1 / x;
      return std::log(std::clamp(x, eps, 1.0));
    };
    return parts_of<F>(
        in, numbers[kSum] != 0, wanted, [&](std::int64_t i, double nll, bool) -> Row {
          const double c = given[i], p = std::exp(-nll);
          double by_q = 0, by_c = 0;
          const double log_q = log_of((1 - c) + c * p, by_q), log_c = log_of(c, by_c);
          return {-log_q, -log_c, by_q * c * p, by_q * -std::expm1(-nll), -by_c};
        });
  });
}

constexpr ops::DirectLoss kDirect{"confidence_loss", 4, 1, composite, parts};
constexpr ops::DirectLoss kOfProbability{"confidence_loss_of_probability", 4, 2,
                                         composite_of_probability, parts_of_probability};
[[maybe_unused]] const bool registered[] = {ops::register_direct_loss(kDirect),
                                            ops::register_direct_loss(kOfProbability)};

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

at::Tensor confidence_loss(const at::Tensor& logits, const at::Tensor& confidence_logit,
                           const at::Tensor& target, const at::Tensor& lambda,
                           const std::optional<at::Tensor>& hint, std::string_view reduction) {
  check(logits, confidence_logit, target, hint);
  const auto weight = ops::one_number(lambda, logits, "confidence", "lambda_");
  const auto labels = ops::class_labels(target, "confidence");
  if (reduction == "none")
    return reduce_rows(rows_of_loss(logits, confidence_logit, labels, weight, hint), labels.ge(0),
                       reduction);
  std::vector<at::Tensor> inputs{logits, confidence_logit, labels, weight};
  if (hint.has_value()) inputs.push_back(*hint);
  return ops::direct_loss(kDirect, inputs, {reduction_is_sum(reduction)});
}

at::Tensor confidence_loss_of_probability(const at::Tensor& logits, const at::Tensor& confidence,
                                          const at::Tensor& target, const at::Tensor& lambda,
                                          double eps) {
  check(logits, confidence, target, std::nullopt);
  return ops::direct_loss(kOfProbability,
                          {logits, confidence, ops::class_labels(target, "confidence"),
                           ops::one_number(lambda, logits, "confidence", "lambda_")},
                          {0, eps});
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
