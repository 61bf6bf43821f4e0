#include "ood/nn/stateful_losses.h"

#include "ood/objectives/row_values.h"
#include "ood/ops/row_terms.h"
#include "ood/torch.h"

namespace ood::nn {
namespace {

// A logistic layer that starts by calling large log-sums OOD, or nearly so, teaches the network
// just that, and the energy score then ranks the wrong way round. So the slope starts at 1.
torch::nn::Linear logistic_layer() {
  torch::nn::Linear phi(1, 2);
  const torch::NoGradGuard no_grad;
  phi->weight.copy_(torch::tensor({-0.5, 0.5}).view({2, 1}));
  return phi;
}

}  // namespace

ConfidenceLossImpl::ConfidenceLossImpl(double lambda_, double budget_, double hints_)
    : budget(budget_), hints(hints_) {
  lambda = register_buffer("lambda", torch::tensor(lambda_));
}

std::pair<at::Tensor, at::Tensor> ConfidenceLossImpl::parts(const at::Tensor& logits,
                                                            const at::Tensor& confidence_logit,
                                                            const at::Tensor& target) {
  std::optional<at::Tensor> hint;
  if (is_training() && hints < 1) hint = torch::rand(target.sizes()).lt(hints);
  const auto [nll, confidence] = confidence_terms(logits, confidence_logit, target, hint);
  const auto known = target.ge(0);
  const auto mean = reduce_rows(confidence, known, "mean");
  const auto penalty = lambda.clone() * mean;
  // A batch without ID rows says nothing of the confidence.
  if (is_training() && budget > 0 && known.any().item<bool>())
    confidence_budget_(lambda, mean, budget);
  return {reduce_rows(nll, known, "mean"), penalty};
}

at::Tensor ConfidenceLossImpl::forward(const at::Tensor& logits, const at::Tensor& confidence_logit,
                                       const at::Tensor& target) {
  const auto [nll, confidence] = parts(logits, confidence_logit, target);
  return nll + confidence;
}

VOSRegLossImpl::VOSRegLossImpl(std::int64_t classes, double alpha_, bool balance_)
    : alpha(alpha_), balance(balance_) {
  weights = register_parameter("weights", torch::rand({classes}));
  phi = register_module("phi", logistic_layer());
}

at::Tensor VOSRegLossImpl::forward(const at::Tensor& logits, const at::Tensor& target) {
  return vos_reg_loss(logits, target, weights, phi->weight, phi->bias, alpha, balance, "mean");
}

VirtualOutlierSynthesizingRegLossImpl::VirtualOutlierSynthesizingRegLossImpl(
    std::int64_t classes, std::int64_t features, std::int64_t sample_number,
    std::int64_t sample_from_, std::int64_t select_, double alpha_)
    : sample_from(sample_from_), select(select_), alpha(alpha_) {
  weights = register_parameter("weights", torch::rand({classes}));
  phi = register_module("phi", logistic_layer());
  queues.queue = register_buffer("queue", torch::zeros({classes, sample_number, features}));
  queues.counts = register_exact("counts", torch::zeros({classes}, torch::kLong));
  queues.sums = register_exact("sums", torch::zeros({classes, features}, torch::kDouble));
  queues.moment = register_exact("moment", torch::zeros({features, features}, torch::kDouble));
  steps = register_exact("steps", torch::zeros({}, torch::kLong));
}

bool VirtualOutlierSynthesizingRegLossImpl::queues_full() const {
  return queues.counts.ge(queues.queue.size(1)).all().item<bool>();
}

void VirtualOutlierSynthesizingRegLossImpl::enqueue(const at::Tensor& features,
                                                    const at::Tensor& target) {
  const torch::NoGradGuard no_grad;
  vos_enqueue_(queues, features, target, steps.item<std::int64_t>());
  steps.add_(1);
}

at::Tensor VirtualOutlierSynthesizingRegLossImpl::draw() const {
  const torch::NoGradGuard no_grad;
  const auto means =
      (queues.sums / static_cast<double>(queues.queue.size(1))).to(queues.queue.scalar_type());
  return vos_sample(means, vos_covariance(queues), sample_from, select);
}

at::Tensor VirtualOutlierSynthesizingRegLossImpl::regularizer(const at::Tensor& logits,
                                                              const at::Tensor& target,
                                                              const at::Tensor& outlier_logits) {
  if (!outlier_logits.defined()) return logits.sum() * 0;
  const auto known = target.ge(0);
  const auto rows = torch::cat({logits.index({known}), outlier_logits});
  const auto labels = torch::cat(
      {target.index({known}), torch::full({outlier_logits.size(0)}, -1, target.options())});
  return vos_reduced_regularizer(rows, labels, weights, phi->weight, phi->bias, false, "mean");
}

at::Tensor VirtualOutlierSynthesizingRegLossImpl::forward(
    const at::Tensor& logits, const at::Tensor& features, const at::Tensor& target,
    const std::function<at::Tensor(const at::Tensor&)>& last) {
  // Synthesis wants queues that were full before this batch.
  const bool full = queues_full();
  enqueue(features, target);
  const auto outlier_logits = full ? last(draw()) : at::Tensor();
  return cross_entropy(logits, target) + alpha * regularizer(logits, target, outlier_logits);
}

EnergyMarginLossImpl::EnergyMarginLossImpl(double initial_cross_entropy, double margin_,
                                           double false_alarm_, double tau_, double out_weight_)
    : margin(margin_), false_alarm(false_alarm_), tau(tau_), out_weight(out_weight_) {
  TORCH_CHECK_VALUE(margin >= 0, "energy_margin: expected margin at least 0, got ", margin);
  phi = register_module("phi", torch::nn::Linear(1, 1));
  // The margin two units of the logistic function wide, so that both terms have a gradient.
  const torch::NoGradGuard no_grad;
  phi->weight.fill_(2 * least_slope());
  phi->bias.fill_(0);
  state = register_buffer("state", torch::tensor({0.0, 1.0, 0.0, 1.0, initial_cross_entropy}));
}

at::Tensor EnergyMarginLossImpl::forward(const at::Tensor& logits, const at::Tensor& target) {
  // With a positive slope large logits would mean OOD. Straight through: a gradient can bring it
  // back.
  const auto& w = phi->weight;
  const auto slope = w + (w.clamp_max(least_slope()) - w).detach();
  return energy_margin_loss(logits, target, slope, phi->bias, state, margin, false_alarm, tau,
                            out_weight);
}

void EnergyMarginLossImpl::update(double inside_violation, double ce_violation, double rate,
                                  double growth, double tolerance, bool shared_multiplier) {
  energy_margin_update_(state, inside_violation, ce_violation, rate, growth, tolerance,
                        shared_multiplier);
}

}  // namespace ood::nn
