// The objectives on distances to centers, as the training loop uses them.
#include "ood/nn/centers.h"
#include "ood/nn/distance_losses.h"
#include "ood/objectives/objectosphere.h"
#include "ood/ops/row_terms.h"
#include "ood/train/formula_terms.h"

namespace ood {
namespace {

class ObjectosphereObjective : public Objective {
 public:
  explicit ObjectosphereObjective(std::vector<double> parameters)
      : parameters_(std::move(parameters)) {}
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto& entry = get_objective(Objectosphere::kName);
    return named(entry, formula_terms(entry, parameters_, output.logits, target,
                                      feature_square_norms(output.features)));
  }
  at::Tensor own_score(const NetworkOutput& output) const override {
    return output.logits.softmax(1).amax(1).mul(output.features.square().sum(1).sqrt()).neg();
  }

 private:
  std::vector<double> parameters_;
};

// Nearest of several centers: classes by it, score its squared distance.
class CenterObjective : public Objective {
 public:
  at::Tensor class_evidence(const NetworkOutput& output) const override {
    return distances(output).neg();
  }
  at::Tensor own_score(const NetworkOutput& output) const override {
    return distances(output).amin(1);
  }

 protected:
  virtual at::Tensor distances(const NetworkOutput& output) const = 0;  // [N, K], squared
};

class CacObjective : public Objective {
 public:
  CacObjective(const std::vector<double>& p, std::int64_t classes)
      : loss_(nn::CACLossOptions(classes).anchor_weight(p[0]).magnitude(p[1])) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto& entry = get_objective(Cac::kName);
    return named(entry, formula_terms(entry, loss_->options.parameters(),
                                      loss_->distance(output.logits).neg(), target, std::nullopt));
  }
  // At test time the anchors are the class means of the training data that is classified correctly.
  void finish(const TrainingPass& pass) override {
    nn::RunningCenters means(loss_->anchors.size(0), loss_->anchors.size(1));
    pass([&](const NetworkOutput& output, const at::Tensor& target) {
      const auto right = loss_->distance(output.logits).argmin(1).eq(target);
      means->update(output.logits, torch::where(right, target, torch::full_like(target, -1)));
    });
    const torch::NoGradGuard no_grad;
    loss_->anchors.copy_(
        torch::where(means->present().unsqueeze(1), means->centers, loss_->anchors));
  }
  at::Tensor class_logits(const NetworkOutput& output) const override {
    return loss_->distance(output.logits).neg();
  }
  at::Tensor class_evidence(const NetworkOutput& output) const override {
    return nn::CACLossImpl::gamma(loss_->distance(output.logits)).neg();
  }
  at::Tensor own_score(const NetworkOutput& output) const override {
    return nn::CACLossImpl::score(loss_->distance(output.logits));
  }

 private:
  mutable nn::CACLoss loss_;
};

class CenterLossObjective : public Objective {
 public:
  CenterLossObjective(const std::vector<double>& p, const ObjectiveContext& c)
      : weight_(p[0]), loss_(c.classes, c.features, p[2], p[1]) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    return sum_of({{"cross_entropy", cross_entropy(output.logits, target)},
                   {"center", weight_ * loss_->forward(output.features, target)}});
  }

 private:
  double weight_;
  nn::CenterLoss loss_;
};

class IiObjective : public CenterObjective {
 public:
  IiObjective(const std::vector<double>& p, const ObjectiveContext& c)
      : cross_entropy_(p[2]), loss_(c.classes, c.features, p[0], p[1] != 0) {
    register_module("loss", loss_);
    norm_ = register_module(
        "norm", torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(c.features).affine(false)));
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto parts = loss_->parts(norm_->forward(output.features), target);
    std::vector<std::pair<std::string, at::Tensor>> terms{{"intra", parts.first},
                                                          {"inter", parts.second}};
    if (cross_entropy_ > 0)
      terms.emplace_back("cross_entropy", cross_entropy_ * cross_entropy(output.logits, target));
    return sum_of(std::move(terms));
  }
  // Without cross-entropy nothing trains the last layer.
  at::Tensor class_logits(const NetworkOutput& output) const override {
    return cross_entropy_ == 0 ? at::Tensor() : output.logits;
  }
  // The running means of a training lag behind the network; validation and test use its own.
  void after_epoch(const TrainingPass& pass) override { finish(pass); }
  void finish(const TrainingPass& pass) override {
    norm_->eval();
    loss_->running->reset();
    pass([&](const NetworkOutput& output, const at::Tensor& target) {
      loss_->running->update(norm_->forward(output.features), target);
    });
  }

 protected:
  at::Tensor distances(const NetworkOutput& output) const override {
    norm_->eval();
    return loss_->distance(norm_->forward(output.features));
  }

 private:
  double cross_entropy_;
  mutable nn::IILoss loss_;
  mutable torch::nn::BatchNorm1d norm_{nullptr};
};

class MchadObjective : public CenterObjective {
 public:
  MchadObjective(const std::vector<double>& p, const ObjectiveContext& c)
      : loss_(nn::MCHADLossOptions(c.classes, get_objective(Mchad::kName).embedding)
                  .weight_center(p[0])
                  .weight_nll(p[1])
                  .weight_oe(p[2])
                  .radius(p[3])
                  .margin(p[4])) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto& entry = get_objective(Mchad::kName);
    const auto d = loss_->distance(output.logits);
    return named(entry, formula_terms(entry, loss_->options.parameters(), d.neg(), target,
                                      loss_->outlier_hinge(d)));
  }
  at::Tensor class_logits(const NetworkOutput& output) const override {
    return class_evidence(output);
  }

 protected:
  at::Tensor distances(const NetworkOutput& output) const override {
    return loss_->distance(output.logits);
  }

 private:
  mutable nn::MCHADLoss loss_;
};

class SphereObjective : public Objective {
 public:
  at::Tensor class_logits(const NetworkOutput&) const override { return {}; }
  void begin(const TrainingPass& pass) override {
    at::Tensor sum;
    double n = 0;
    pass([&](const NetworkOutput& output, const at::Tensor&) {
      const auto s = output.logits.to(torch::kDouble).sum(0);
      sum = sum.defined() ? sum + s : s;
      n += static_cast<double>(output.logits.size(0));
    });
    const torch::NoGradGuard no_grad;
    center().copy_(svdd_center(sum / n));
  }
  at::Tensor own_score(const NetworkOutput& output) const override {
    return center_distances(output.logits, center().unsqueeze(0), true).squeeze(1);
  }

 protected:
  virtual at::Tensor center() const = 0;
};

class SvddObjective : public SphereObjective {
 public:
  SvddObjective(const std::vector<double>& p, std::int64_t features)
      : loss_(features, p[0]), warmup_(p[1]) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    return sum_of({{"sphere", loss_->forward(output.logits, target)}});
  }
  void after_step(const NetworkOutput& output, const at::Tensor& target) override {
    if (epoch() >= warmup_)
      loss_->update_radius(loss_->distance(output.logits.detach()).masked_select(target.ge(0)));
  }

 protected:
  at::Tensor center() const override { return loss_->center; }

 private:
  nn::DeepSVDDLoss loss_;
  double warmup_;
};

class SadObjective : public SphereObjective {
 public:
  SadObjective(const std::vector<double>& p, std::int64_t features)
      : loss_(features, p[0], p[1]), labelled_normal_(p[2] != 0) {
    register_module("loss", loss_);
  }
  Losses forward(const NetworkOutput& output, const at::Tensor& target) override {
    const auto normal = torch::full_like(target, labelled_normal_ ? 1 : 0);
    return sum_of({{"sphere", loss_->forward(output.logits,
                                             torch::where(target.lt(0),
                                                          torch::full_like(target, -1), normal))}});
  }

 protected:
  at::Tensor center() const override { return loss_->center; }

 private:
  nn::DeepSADLoss loss_;
  bool labelled_normal_;
};

using P = const std::vector<double>&;
using C = const ObjectiveContext&;
using Made = std::shared_ptr<Objective>;

[[maybe_unused]] const bool registered[] = {
    register_objective_module(
        Objectosphere::kName,
        +[](P p, C) -> Made { return std::make_shared<ObjectosphereObjective>(p); }),
    register_objective_module(
        Cac::kName, +[](P p, C c) -> Made { return std::make_shared<CacObjective>(p, c.classes); }),
    register_objective_module(
        Center::kName,
        +[](P p, C c) -> Made { return std::make_shared<CenterLossObjective>(p, c); }),
    register_objective_module(
        Ii::kName, +[](P p, C c) -> Made { return std::make_shared<IiObjective>(p, c); }),
    register_objective_module(
        Mchad::kName, +[](P p, C c) -> Made { return std::make_shared<MchadObjective>(p, c); }),
    register_objective_module(
        DeepSvdd::kName,
        +[](P p, C) -> Made {
          return std::make_shared<SvddObjective>(p, get_objective(DeepSvdd::kName).embedding);
        }),
    register_objective_module(
        DeepSad::kName,
        +[](P p, C) -> Made {
          return std::make_shared<SadObjective>(p, get_objective(DeepSad::kName).embedding);
        }),
};

}  // namespace
}  // namespace ood
