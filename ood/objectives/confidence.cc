#include "ood/objectives/confidence.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Confidence);

std::pair<at::Tensor, at::Tensor> confidence_terms(const at::Tensor& logits,
                                                   const at::Tensor& confidence_logit,
                                                   const at::Tensor& target,
                                                   const std::optional<at::Tensor>& hint) {
  TORCH_CHECK_VALUE(logits.dim() == 2, "confidence: expected logits [N, C], got ",
                    logits.sym_sizes());
  TORCH_CHECK_VALUE(confidence_logit.sym_sizes() == target.sym_sizes(),
                    "confidence: expected a confidence logit of the target's shape ",
                    target.sym_sizes(), ", got ", confidence_logit.sym_sizes());
  TORCH_CHECK_VALUE(!hint.has_value() || hint->sym_sizes() == target.sym_sizes(),
                    "confidence: expected hint of the target's shape ", target.sym_sizes(),
                    ", got another");
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
  const auto [nll, confidence] = confidence_terms(logits, confidence_logit, target, hint);
  return reduce_rows(nll + lambda * confidence, target.ge(0), reduction);
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
  m.def("confidence_budget_(Tensor(a!) lambda_, Tensor mean_confidence, float budget) -> ()",
        [](const at::Tensor& lambda, const at::Tensor& mean_confidence, double budget) {
          at::Tensor l = lambda;
          confidence_budget_(l, mean_confidence, budget);
        });
}

}  // namespace ood
