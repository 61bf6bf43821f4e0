#pragma once

#include <ATen/core/grad_mode.h>

#include "ood/nn/centers.h"
#include "ood/nn/loss_options.h"
#include "ood/objectives/cac.h"
#include "ood/objectives/center.h"
#include "ood/objectives/deep_svdd.h"
#include "ood/objectives/ii.h"
#include "ood/objectives/mchad.h"

/// torch::nn modules of the objectives on distances to centers. They take embeddings, hold centers
/// as parameters or buffers (so in state_dict, moved by .to()), and compute through the shared ops.
namespace ood::nn {

struct CACLossOptions : LossOptions<CACLossOptions, Cac> {
  CACLossOptions(std::int64_t classes_) : classes(classes_) {}  // NOLINT
  OOD_OPTION(anchor_weight)
  OOD_OPTION(magnitude)
  /// Squared instead of Euclidean distances.
  CACLossOptions& squared(bool v) { return squared_ = v, *this; }
  bool squared() const { return squared_; }
  std::int64_t classes;

 private:
  bool squared_ = false;
};

/// Class anchor clustering; the embedding has as many numbers as there are classes.
class CACLossImpl : public torch::nn::Module {
 public:
  explicit CACLossImpl(const CACLossOptions& options);
  /// embedding [N, K] -> distances [N, K].
  at::Tensor distance(const at::Tensor& embedding);
  /// embedding [N, K], target [N].
  at::Tensor forward(const at::Tensor& embedding, const at::Tensor& target);
  /// gamma_j = d_j (1 - softmin(d)_j), [N, K].
  static at::Tensor gamma(const at::Tensor& distances);
  /// The paper's rejection score: min_j gamma_j, higher for OOD. [N]
  static at::Tensor score(const at::Tensor& distances);

  CACLossOptions options;
  at::Tensor anchors;  ///< buffer [K, K]; at test time replaced by class means
};
TORCH_MODULE(CACLoss);

/// Center loss alone: mean over ID rows of max(0, ||x - c_y||^2 - radius^2).
class CenterLossImpl : public torch::nn::Module {
 public:
  CenterLossImpl(std::int64_t classes, std::int64_t dimension, double magnitude = 1,
                 double radius = 0, bool fixed = false);
  at::Tensor forward(const at::Tensor& embedding, const at::Tensor& target);
  /// The paper's update of the centers, instead of training them: see center_update_.
  void wen_update(const at::Tensor& embedding, const at::Tensor& target, double alpha = 0.5);

  ClassCenters centers{nullptr};
  double radius;
};
TORCH_MODULE(CenterLoss);

/// II loss; running means of the classes for evaluation are updated by forward() in training mode.
class IILossImpl : public torch::nn::Module {
 public:
  IILossImpl(std::int64_t classes, std::int64_t dimension, double alpha = 1,
             bool normalize_by_dim = false);
  at::Tensor forward(const at::Tensor& embedding, const at::Tensor& target);
  /// intra and -alpha inter.
  std::pair<at::Tensor, at::Tensor> parts(const at::Tensor& embedding, const at::Tensor& target);
  /// Squared distances to the running means, [N, K].
  at::Tensor distance(const at::Tensor& embedding) { return running->forward(embedding); }
  /// Class probabilities, softmin of the distances. [N, K]
  at::Tensor predict(const at::Tensor& embedding) { return distance(embedding).neg().softmax(1); }

  RunningCenters running{nullptr};

 private:
  std::int64_t classes_;
  double alpha_;
  bool normalize_;
};
TORCH_MODULE(IILoss);

struct MCHADLossOptions : LossOptions<MCHADLossOptions, Mchad> {
  MCHADLossOptions(std::int64_t classes_, std::int64_t dimension_)
      : classes(classes_), dimension(dimension_) {}
  OOD_OPTION(weight_center)
  OOD_OPTION(weight_nll)
  OOD_OPTION(weight_oe)
  OOD_OPTION(radius)
  OOD_OPTION(margin)
  /// The authors' code instead of the documented formula.
  MCHADLossOptions& legacy(bool v) { return legacy_ = v, *this; }
  bool legacy() const { return legacy_; }
  std::int64_t classes, dimension;

 private:
  bool legacy_ = false;
};

class MCHADLossImpl : public torch::nn::Module {
 public:
  explicit MCHADLossImpl(const MCHADLossOptions& options);
  /// embedding [N, D] -> squared distances [N, K].
  at::Tensor distance(const at::Tensor& embedding) { return centers->forward(embedding); }
  /// sum_j max(0, (radius + margin)^2 - d_j), as the formula's extras [1, N].
  at::Tensor outlier_hinge(const at::Tensor& distances) const;
  /// embedding [N, D], target [N].
  at::Tensor forward(const at::Tensor& embedding, const at::Tensor& target);

  MCHADLossOptions options;
  ClassCenters centers{nullptr};
};
TORCH_MODULE(MCHADLoss);

/// Deep SVDD; nu = 0 is the one-class objective, nu > 0 the soft boundary.
class DeepSVDDLossImpl : public torch::nn::Module {
 public:
  explicit DeepSVDDLossImpl(std::int64_t dimension, double nu = 0);
  /// embedding [N, D] -> ||f - c||^2 [N].
  at::Tensor distance(const at::Tensor& embedding);
  at::Tensor forward(const at::Tensor& embedding, const at::Tensor& target);
  /// Center from a range of embeddings [N, D]: their mean, entries within 0.1 of 0 moved away from
  /// it.
  template <class Range>
  void init_center(const Range& embeddings) {
    at::Tensor sum;
    double n = 0;
    for (const at::Tensor& batch : embeddings) {
      const auto s = batch.detach().to(at::kDouble).sum(0);
      sum = sum.defined() ? sum + s : s;
      n += static_cast<double>(batch.size(0));
    }
    at::NoGradGuard no_grad;
    center.copy_(svdd_center(sum / n));
  }
  /// Radius as the (1 - nu) quantile of the square roots of these distances; for nu > 0 only.
  void update_radius(const at::Tensor& distances);

  at::Tensor center;  ///< buffer [D]
  at::Tensor radius;  ///< buffer, scalar
  double nu;
};
TORCH_MODULE(DeepSVDDLoss);

/// Deep SAD with semi-targets 0 (unlabelled), +1 (labelled normal), -1 (labelled outlier).
class DeepSADLossImpl : public torch::nn::Module {
 public:
  explicit DeepSADLossImpl(std::int64_t dimension, double eta = 1, double eps = 1e-6);
  at::Tensor distance(const at::Tensor& embedding);
  at::Tensor forward(const at::Tensor& embedding, const at::Tensor& semi_target);

  at::Tensor center;  ///< buffer [D]
  double eta, eps;
};
TORCH_MODULE(DeepSADLoss);

}  // namespace ood::nn
