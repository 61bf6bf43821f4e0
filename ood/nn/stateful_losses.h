#pragma once

#include "ood/nn/exact_state.h"
#include "ood/nn/loss_options.h"
#include "ood/objectives/confidence.h"
#include "ood/objectives/energy_margin.h"
#include "ood/objectives/virtual_outlier_synthesis.h"
#include "ood/objectives/vos_reg.h"

/// torch::nn modules of the objectives with state: thin holders of the tensors that the functional
/// cores in ood/objectives work on. All state is parameter or buffer.
namespace ood::nn {

/// See ood::Confidence.
class ConfidenceLossImpl : public torch::nn::Module {
 public:
  explicit ConfidenceLossImpl(double lambda = 0.1, double budget = 0.3, double hints = 0.5);
  /// logits [N, C], confidence_logit [N], target [N]. In training mode hints are drawn and lambda
  /// follows the budget.
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& confidence_logit,
                     const at::Tensor& target);
  /// The two terms that forward sums: nll and lambda (-log c), means over the ID rows.
  std::pair<at::Tensor, at::Tensor> parts(const at::Tensor& logits,
                                          const at::Tensor& confidence_logit,
                                          const at::Tensor& target);

  at::Tensor lambda;  ///< buffer, scalar
  double budget, hints;
};
TORCH_MODULE(ConfidenceLoss);

/// See ood::VosReg.
class VOSRegLossImpl : public torch::nn::Module {
 public:
  explicit VOSRegLossImpl(std::int64_t classes, double alpha = 0.1, bool balance = false);
  /// logits [N, C] or [N, C, ...], target [N, ...].
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& target);

  at::Tensor weights;              ///< parameter [C], drawn from U(0, 1)
  torch::nn::Linear phi{nullptr};  ///< Linear(1, 2)
  double alpha;
  bool balance;
};
TORCH_MODULE(VOSRegLoss);

/// See ood::VirtualOutlierSynthesis.
class VirtualOutlierSynthesizingRegLossImpl : public ExactState {
 public:
  VirtualOutlierSynthesizingRegLossImpl(std::int64_t classes, std::int64_t features,
                                        std::int64_t sample_number = 1000,
                                        std::int64_t sample_from = 10000, std::int64_t select = 1,
                                        double alpha = 0.1);
  /// Whether outliers can be drawn.
  bool queues_full() const;
  /// Takes the features [N, D] of ID rows in.
  void enqueue(const at::Tensor& features, const at::Tensor& target);
  /// Outliers [K * select, D]; the queues must be full.
  at::Tensor draw() const;
  /// The regularizer of ID logits [N, C] and of the outliers' logits (undefined: 0).
  at::Tensor regularizer(const at::Tensor& logits, const at::Tensor& target,
                         const at::Tensor& outlier_logits);
  /// logits [N, C], features [N, D], target [N] (< 0: left out); last: the network's last layer.
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& features, const at::Tensor& target,
                     const std::function<at::Tensor(const at::Tensor&)>& last);

  at::Tensor weights;
  torch::nn::Linear phi{nullptr};
  VosQueues queues;  ///< buffers
  at::Tensor steps;  ///< buffer, int64 scalar
  std::int64_t sample_from, select;
  double alpha;
};
TORCH_MODULE(VirtualOutlierSynthesizingRegLoss);

/// See ood::EnergyMargin.
class EnergyMarginLossImpl : public torch::nn::Module {
 public:
  EnergyMarginLossImpl(double initial_cross_entropy, double margin = 10, double false_alarm = 0.05,
                       double tau = 2, double out_weight = 1);
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& target);
  /// The multipliers after violations over the training data.
  void update(double inside_violation, double ce_violation, double rate = 1, double growth = 1.5,
              double tolerance = 0, bool shared_multiplier = false);

  /// Linear(1, 1) on the log-sum. Its slope counts as at most -1 / max(margin, 1), where it starts
  /// at twice that; the caller should set its bias so that the boundary lies among the data.
  torch::nn::Linear phi{nullptr};
  at::Tensor state;  ///< buffer [5], see energy_margin_loss
  double margin, false_alarm, tau, out_weight;

 private:
  double least_slope() const { return -1 / std::max(margin, 1.0); }
};
TORCH_MODULE(EnergyMarginLoss);

}  // namespace ood::nn
