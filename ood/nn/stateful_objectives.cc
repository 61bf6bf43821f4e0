// The objectives with state, as the training loop uses them.
#include <cmath>

#include "ood/nn/stateful_losses.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/row_terms.h"
#include "ood/train/objective.h"

namespace ood {
namespace {

at::Tensor cross_entropy_of(const at::Tensor& logits, const at::Tensor& target) {
  return loss(logits, target, "cross_entropy", std::vector<double>{0}, std::nullopt, std::nullopt,
              "mean", "default", std::nullopt);
}

// The last output is the confidence logit.
class ConfidenceObjective : public Objective {
 public:
  explicit ConfidenceObjective(const std::vector<double>& p) : loss_(p[0], p[1], p[2]) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto [nll, confidence] =
        loss_->parts(class_logits(output.logits), output.logits.select(1, -1), target);
    return sum_of({{"nll", nll}, {"confidence", confidence}});
  }
  at::Tensor class_logits(const at::Tensor& logits) const override {
    return logits.slice(1, 0, -1).contiguous();
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
    const auto total = loss_->forward(output.logits, target);
    const auto ce = cross_entropy_of(output.logits, target);
    Losses losses;
    losses.total = total;
    losses.terms = {{"cross_entropy", ce.detach()}, {"regularizer", (total - ce).detach()}};
    return losses;
  }
  void after_step(const NetworkOutput&, const at::Tensor&, double) override {
    warn_once_of_weights(loss_->weights);
  }

 private:
  void warn_once_of_weights(const at::Tensor& weights) {
    if (warned_ || weights.gt(0).any().item<bool>()) return;
    warned_ = true;
    std::fprintf(stderr,
                 "warning: vos_reg: all energy weights are at or below 0, the regularizer has no "
                 "gradient; set a smaller --lr or --weight-decay\n");
  }
  nn::VOSRegLoss loss_;
  bool warned_ = false;
};

class VosObjective : public Objective {
 public:
  VosObjective(const std::vector<double>& p, const ObjectiveContext& c)
      : context_(c),
        start_(p[4]),
        loss_(c.classes, c.features, static_cast<std::int64_t>(p[1]),
              static_cast<std::int64_t>(p[2]), static_cast<std::int64_t>(p[3]), p[0]) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto ce = cross_entropy_of(output.logits, target);
    if (!is_training()) return sum_of({{"cross_entropy", ce}, {"regularizer", ce * 0}});
    // Drawn also before the start, so that the queues fill.
    auto outliers = loss_->draw(output.features, target);
    const bool started = epoch_ >= start_ * static_cast<double>(context_.epochs);
    if (started && !outliers.defined() && !warned_) {
      warned_ = true;
      const auto missing = loss_->queues.counts.lt(loss_->queues.queue.size(1)).sum();
      std::fprintf(stderr,
                   "warning: virtual_outlier_synthesis: at its start %ld of %ld queues are not "
                   "full; no outliers until they are; set a smaller sample_number (now %ld)\n",
                   static_cast<long>(missing.item<std::int64_t>()),
                   static_cast<long>(context_.classes),
                   static_cast<long>(loss_->queues.queue.size(1)));
    }
    if (!started) outliers = at::Tensor();
    const auto regularizer = loss_->regularizer(
        output.logits, target, outliers.defined() ? context_.head(outliers) : outliers);
    return sum_of({{"cross_entropy", ce}, {"regularizer", loss_->alpha * regularizer}});
  }
  void after_step(const NetworkOutput&, const at::Tensor&, double epoch) override {
    epoch_ = epoch;
  }
  void resume(double epoch) override { epoch_ = epoch; }

 private:
  ObjectiveContext context_;
  double start_, epoch_ = 0;
  bool warned_ = false;
  nn::VirtualOutlierSynthesizingRegLoss loss_;
};

class EnergyMarginObjective : public Objective {
 public:
  EnergyMarginObjective(std::vector<double> p, std::int64_t epochs)
      : p_(std::move(p)), epochs_(epochs), loss_(0.0, p_[0], p_[1], p_[2], p_[3]) {
    register_module("loss", loss_);
    boundary_ = register_buffer("boundary", torch::zeros({}));
    window_ = register_buffer("window", torch::zeros({3}, torch::kDouble));
  }
  void begin(const TrainingPass& pass) override {
    if (p_[8] == 0) measure(pass);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto m = energy_margin_means(output.logits, target, phi_weight(), phi_bias(), p_[0]);
    const auto zero = m.inside * 0;
    const auto any = m.known.any();
    if (epoch_ < p_[8])
      return sum_of({{"classification", m.cross_entropy}, {"outside", zero}, {"inside", zero}});
    if (is_training() && any.item<bool>())
      window_.add_(torch::tensor({m.inside.item<double>(), m.cross_entropy.item<double>(), 1.0},
                                 torch::kDouble));
    const auto& s = loss_->state;
    const auto psi = [&](const at::Tensor& violation, int i) {
      return torch::where(
          any, augmented_lagrangian(violation, s.select(0, i).clone(), s.select(0, i + 1).clone()),
          zero);
    };
    return sum_of({{"classification", psi(m.cross_entropy - p_[2] * s.select(0, 4).clone(), 2)},
                   {"outside", p_[3] * m.outside},
                   {"inside", psi(m.inside - p_[1], 0)}});
  }
  void after_step(const NetworkOutput&, const at::Tensor&, double epoch) override {
    const double before = epoch_;
    epoch_ = epoch;
    if (epoch_ < p_[8]) return;
    update_multipliers(before);
    // With a positive slope large logits would mean OOD, and the margin its opposite.
    const torch::NoGradGuard no_grad;
    loss_->phi->weight.clamp_max_(-1);
  }
  void resume(double epoch) override { epoch_ = epoch; }
  void after_epoch(const TrainingPass& pass) override {
    if (epoch_ < p_[8]) return;
    if (loss_->state.select(0, 4).item<double>() == 0) measure(pass);
  }

 private:
  // By the means over the steps since the last update.
  void update_multipliers(double before) {
    const auto due = [&](double epoch) {
      return std::floor(epoch * p_[9] / static_cast<double>(epochs_));
    };
    const auto n = window_[2].item<double>();
    if (due(before) == due(epoch_) || n == 0) return;
    loss_->update(window_[0].item<double>() / n - p_[1],
                  window_[1].item<double>() / n - p_[2] * loss_->state[4].item<double>(), p_[4],
                  p_[5], p_[6], p_[7] != 0);
    window_.zero_();
  }

  // Means over the training data of sigmoid(phi) and of the cross-entropy.
  std::pair<double, double> over(const TrainingPass& pass) const {
    double inside = 0, ce = 0, n = 0;
    pass([&](const NetworkOutput& output, const at::Tensor& target) {
      const auto m = energy_margin_means(output.logits, target, phi_weight(), phi_bias(), p_[0]);
      const auto rows = static_cast<double>(target.size(0));
      inside += m.inside.item<double>() * rows;
      ce += m.cross_entropy.item<double>() * rows;
      n += rows;
    });
    return {inside / n, ce / n};
  }
  // L_0, and a logistic layer from which both terms have a gradient: its boundary where as many of
  // the training data would be rejected as may be, the margin two units wide. Drawn at random, it
  // saturates.
  void measure(const TrainingPass& pass) {
    const torch::NoGradGuard no_grad;
    std::vector<at::Tensor> all;
    pass([&](const NetworkOutput& output, const at::Tensor&) {
      all.push_back(output.logits.logsumexp(1));
    });
    const auto s = std::get<0>(torch::cat(all).sort());
    const auto at = static_cast<std::int64_t>(p_[1] * static_cast<double>(s.size(0) - 1));
    boundary_.copy_(s[at]);
    loss_->phi->weight.fill_(-2);
    loss_->phi->bias.fill_(0);
    loss_->state.select(0, 4).fill_(over(pass).second);
  }

  // The layer learns on (s - boundary) / margin: on s itself its bias and slope would be so
  // entangled that a step of one undoes the other.
  double width() const { return std::max(p_[0], 1.0); }
  at::Tensor phi_weight() const { return loss_->phi->weight.squeeze() / width(); }
  at::Tensor phi_bias() const {
    return loss_->phi->bias.squeeze() - phi_weight() * boundary_.clone();
  }

  std::vector<double> p_;
  std::int64_t epochs_;
  double epoch_ = 0;
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
        +[](P p, C c) -> Made { return std::make_shared<VosObjective>(p, c); }),
    register_objective_module(
        EnergyMargin::kName,
        +[](P p, C c) -> Made { return std::make_shared<EnergyMarginObjective>(p, c.epochs); }),
};

}  // namespace
}  // namespace ood
