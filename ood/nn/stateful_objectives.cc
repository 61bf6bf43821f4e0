// The objectives with state, as the training loop uses them.
#include <cmath>

#include "ood/nn/stateful_losses.h"
#include "ood/ops/row_terms.h"
#include "ood/train/objective.h"

namespace ood {
namespace {

// The last output is the confidence logit.
class ConfidenceObjective : public Objective {
 public:
  explicit ConfidenceObjective(const std::vector<double>& p) : loss_(p[0], p[1], p[2]) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto [nll, confidence] =
        loss_->parts(class_logits(output), output.logits.select(1, -1), target);
    return sum_of({{"nll", nll}, {"confidence", confidence}});
  }
  at::Tensor class_logits(const NetworkOutput& output) const override {
    return output.logits.slice(1, 0, -1).contiguous();
  }
  at::Tensor own_score(const NetworkOutput& output) const override {
    return output.logits.select(1, -1).neg();
  }

 private:
  nn::ConfidenceLoss loss_;
};

class VosRegObjective : public Objective {
 public:
  VosRegObjective(const std::vector<double>& p, std::int64_t classes)
      : loss_(classes, p[0], p[1] != 0) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto regularizer =
        vos_reduced_regularizer(output.logits, target, loss_->weights, loss_->phi->weight,
                                loss_->phi->bias, loss_->balance, "mean");
    return sum_of({{"cross_entropy", cross_entropy(output.logits, target)},
                   {"regularizer", loss_->alpha * regularizer}});
  }
  void after_step(const NetworkOutput&, const at::Tensor&) override {
    if (warned_ || loss_->weights.gt(0).any().item<bool>()) return;
    warned_ = true;
    std::fprintf(stderr,
                 "warning: vos_reg: all energy weights are at or below 0, the regularizer has no "
                 "gradient; set a smaller --lr or --weight-decay\n");
  }

 private:
  nn::VOSRegLoss loss_;
  bool warned_ = false;
};

class VosObjective : public Objective {
 public:
  VosObjective(const VirtualOutlierSynthesis& p, const ObjectiveContext& c)
      : context_(c),
        start_(p.start * static_cast<double>(c.epochs)),
        loss_(c.classes, c.features, static_cast<std::int64_t>(p.sample_number),
              static_cast<std::int64_t>(p.sample_from), static_cast<std::int64_t>(p.select),
              p.alpha) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    at::Tensor outlier_logits;
    if (is_training()) {
      const bool full = loss_->queues_full();
      loss_->enqueue(output.features, target);
      if (epoch() >= start_ && full) outlier_logits = context_.head(loss_->draw());
      if (epoch() >= start_ && !full) warn_of_queues();
    }
    return sum_of({{"cross_entropy", cross_entropy(output.logits, target)},
                   {"regularizer",
                    loss_->alpha * loss_->regularizer(output.logits, target, outlier_logits)}});
  }

 private:
  void warn_of_queues() {
    if (warned_) return;
    warned_ = true;
    const auto missing = loss_->queues.counts.lt(loss_->queues.queue.size(1)).sum();
    std::fprintf(stderr,
                 "warning: virtual_outlier_synthesis: at its start %ld of %ld queues are not "
                 "full; no outliers until they are; set a smaller sample_number (now %ld)\n",
                 static_cast<long>(missing.item<std::int64_t>()),
                 static_cast<long>(context_.classes),
                 static_cast<long>(loss_->queues.queue.size(1)));
  }

  ObjectiveContext context_;
  double start_;  // in epochs
  bool warned_ = false;
  nn::VirtualOutlierSynthesizingRegLoss loss_;
};

class EnergyMarginObjective : public Objective {
 public:
  EnergyMarginObjective(const EnergyMargin& p, std::int64_t epochs)
      : p_(p),
        updates_per_epoch_(p.updates / static_cast<double>(epochs)),
        loss_(0.0, p.margin, p.false_alarm, p.tau, p.out_weight) {
    register_module("loss", loss_);
    boundary_ = register_buffer("boundary", torch::zeros({}));
    window_ = register_buffer("window", torch::zeros({3}, torch::kDouble));
  }
  void begin(const TrainingPass& pass) override {
    if (p_.warmup_epochs == 0) measure(pass);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto m = energy_margin_means(output.logits, target, phi_weight(), phi_bias(), p_.margin);
    if (epoch() < p_.warmup_epochs)
      return sum_of({{"classification", m.cross_entropy},
                     {"outside", m.outside * 0},
                     {"inside", m.inside * 0}});
    if (is_training() && m.known.any().item<bool>())
      window_.add_(torch::tensor({m.inside.item<double>(), m.cross_entropy.item<double>(), 1.0},
                                 torch::kDouble));
    const auto terms = energy_margin_terms(m, loss_->state, p_.false_alarm, p_.tau, p_.out_weight);
    updates_before_ = std::floor(epoch() * updates_per_epoch_);
    return sum_of({{"classification", terms.classification},
                   {"outside", terms.outside},
                   {"inside", terms.inside}});
  }
  void after_step(const NetworkOutput&, const at::Tensor&) override {
    if (epoch() < p_.warmup_epochs) return;
    if (std::floor(epoch() * updates_per_epoch_) != updates_before_) update_multipliers();
    // With a positive slope large logits would mean OOD, and the margin its opposite.
    const torch::NoGradGuard no_grad;
    loss_->phi->weight.clamp_max_(-1);
  }
  void after_epoch(const TrainingPass& pass) override {
    if (epoch() >= p_.warmup_epochs && initial_cross_entropy().item<double>() == 0) measure(pass);
  }

 private:
  at::Tensor initial_cross_entropy() const { return loss_->state[4]; }

  // By the means over the steps since the last update.
  void update_multipliers() {
    const auto n = window_[2].item<double>();
    if (n == 0) return;
    loss_->update(window_[0].item<double>() / n - p_.false_alarm,
                  window_[1].item<double>() / n - p_.tau * initial_cross_entropy().item<double>(),
                  p_.rate, p_.growth, p_.tolerance, p_.shared_multiplier != 0);
    window_.zero_();
  }

  // L_0, and a logistic layer from which both terms have a gradient: its boundary where as many of
  // the training data would be rejected as may be, the margin two units wide. Drawn at random, it
  // saturates.
  void measure(const TrainingPass& pass) {
    const torch::NoGradGuard no_grad;
    std::vector<at::Tensor> all;
    double ce = 0;
    pass([&](const NetworkOutput& output, const at::Tensor& target) {
      all.push_back(output.logits.logsumexp(1));
      ce += cross_entropy(output.logits, target, "sum").item<double>();
    });
    const auto s = std::get<0>(torch::cat(all).sort());
    const auto at = static_cast<std::int64_t>(p_.false_alarm * static_cast<double>(s.size(0) - 1));
    boundary_.copy_(s[at]);
    loss_->phi->weight.fill_(-2);
    loss_->phi->bias.fill_(0);
    initial_cross_entropy().fill_(ce / static_cast<double>(s.size(0)));
  }

  // The layer learns on (s - boundary) / margin: on s itself its bias and slope would be so
  // entangled that a step of one undoes the other.
  at::Tensor phi_weight() const { return loss_->phi->weight.squeeze() / std::max(p_.margin, 1.0); }
  at::Tensor phi_bias() const {
    return loss_->phi->bias.squeeze() - phi_weight() * boundary_.clone();
  }

  EnergyMargin p_;
  double updates_per_epoch_, updates_before_ = 0;
  nn::EnergyMarginLoss loss_;
  at::Tensor boundary_, window_;
};

using P = const std::vector<double>&;
using C = const ObjectiveContext&;
using Made = std::shared_ptr<Objective>;

[[maybe_unused]] const bool registered[] = {
    register_objective_module(
        Confidence::kName,
        +[](P p, C) -> Made { return std::make_shared<ConfidenceObjective>(p); }),
    register_objective_module(
        VosReg::kName,
        +[](P p, C c) -> Made { return std::make_shared<VosRegObjective>(p, c.classes); }),
    register_objective_module(
        VirtualOutlierSynthesis::kName,
        +[](P p, C c) -> Made {
          return std::make_shared<VosObjective>(with_parameters<VirtualOutlierSynthesis>(p.data()),
                                                c);
        }),
    register_objective_module(
        EnergyMargin::kName,
        +[](P p, C c) -> Made {
          return std::make_shared<EnergyMarginObjective>(with_parameters<EnergyMargin>(p.data()),
                                                         c.epochs);
        }),
};

}  // namespace
}  // namespace ood
