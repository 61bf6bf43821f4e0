#include "ood/nn/distance_losses.h"

#include "ood/ops/row_terms.h"
#include "ood/torch.h"

namespace ood::nn {
namespace {

at::Tensor formula_loss(std::string_view name, const std::vector<double>& parameters,
                        const at::Tensor& rows, const at::Tensor& target,
                        const std::optional<at::Tensor>& extras, Reduction reduction,
                        Balance balance, std::optional<std::int64_t> ignore_index) {
  return loss(rows, target, name, parameters, extras, std::nullopt, nn::name(reduction),
              nn::name(balance), ignore_index);
}

at::Tensor to_center(const at::Tensor& embedding, const at::Tensor& center) {
  return center_distances(embedding, center.unsqueeze(0), true).squeeze(1);
}

}  // namespace

CACLossImpl::CACLossImpl(const CACLossOptions& o) : options(o) {
  anchors = register_buffer("anchors", torch::eye(o.classes) * o.magnitude());
}

at::Tensor CACLossImpl::distance(const at::Tensor& embedding) {
  return center_distances(embedding, anchors.to(embedding.scalar_type()), options.squared());
}

at::Tensor CACLossImpl::forward(const at::Tensor& embedding, const at::Tensor& target) {
  return formula_loss(Cac::kName, options.parameters(), distance(embedding).neg(), target,
                      std::nullopt, options.reduction(), options.balance(), options.ignore_index());
}

at::Tensor CACLossImpl::gamma(const at::Tensor& distances) {
  return distances * (1 - distances.neg().softmax(1));
}

at::Tensor CACLossImpl::score(const at::Tensor& distances) { return gamma(distances).amin(1); }

CenterLossImpl::CenterLossImpl(std::int64_t classes, std::int64_t dimension, double magnitude,
                               double radius_, bool fixed)
    : radius(radius_) {
  centers = register_module("centers", ClassCenters(classes, dimension, magnitude, fixed));
}

at::Tensor CenterLossImpl::forward(const at::Tensor& embedding, const at::Tensor& target) {
  return center_loss(embedding, target, centers->centers, radius, "mean");
}

void CenterLossImpl::wen_update(const at::Tensor& embedding, const at::Tensor& target,
                                double alpha) {
  center_update_(centers->centers, embedding.detach(), target, alpha);
}

IILossImpl::IILossImpl(std::int64_t classes, std::int64_t dimension, double alpha,
                       bool normalize_by_dim)
    : classes_(classes), alpha_(alpha), normalize_(normalize_by_dim) {
  running = register_module("running", RunningCenters(classes, dimension));
}

std::pair<at::Tensor, at::Tensor> IILossImpl::parts(const at::Tensor& embedding,
                                                    const at::Tensor& target) {
  if (is_training()) running->update(embedding, target);
  const auto p = ii_parts(embedding, target, classes_, normalize_);
  const auto n = target.ge(0).sum().clamp_min(1).to(embedding.scalar_type());
  return {p.intra.sum() / n, -alpha_ * p.inter};
}

at::Tensor IILossImpl::forward(const at::Tensor& embedding, const at::Tensor& target) {
  const auto [intra, inter] = parts(embedding, target);
  return intra + inter;
}

MCHADLossImpl::MCHADLossImpl(const MCHADLossOptions& o) : options(o) {
  centers = register_module("centers", ClassCenters(o.classes, o.dimension));
}

at::Tensor MCHADLossImpl::outlier_hinge(const at::Tensor& distances) const {
  const double reach = options.radius() + options.margin();
  return (reach * reach - distances).relu().sum(1).unsqueeze(0);
}

at::Tensor MCHADLossImpl::forward(const at::Tensor& embedding, const at::Tensor& target) {
  const auto d = distance(embedding);
  if (!options.legacy())
    return formula_loss(Mchad::kName, options.parameters(), d.neg(), target, outlier_hinge(d),
                        options.reduction(), options.balance(), options.ignore_index());
  // The authors' code: r instead of r^2 and a mean over B C; distances squared twice, summed.
  const auto id = target.ge(0);
  const auto n = id.sum().clamp_min(1).to(d.scalar_type());
  const auto label = target.clamp_min(0).unsqueeze(1);
  const auto own = d.gather(1, label).squeeze(1);
  const auto center = (own - options.radius()).relu().masked_fill(id.logical_not(), 0).sum() /
                      (n * static_cast<double>(options.classes));
  const auto nll = (d.neg().logsumexp(1) + own).masked_fill(id.logical_not(), 0).sum() / n;
  const auto oe =
      (options.margin() * options.margin() - d.square()).relu().sum(1).masked_fill(id, 0).sum();
  return options.weight_center() * center + options.weight_nll() * nll + options.weight_oe() * oe;
}

DeepSVDDLossImpl::DeepSVDDLossImpl(std::int64_t dimension, double nu_) : nu(nu_) {
  center = register_buffer("center", torch::zeros({dimension}));
  radius = register_buffer("radius", torch::zeros({}));
}

at::Tensor DeepSVDDLossImpl::distance(const at::Tensor& embedding) {
  return to_center(embedding, center);
}

at::Tensor DeepSVDDLossImpl::forward(const at::Tensor& embedding, const at::Tensor& target) {
  return svdd_loss(distance(embedding), target, radius, nu, "mean");
}

void DeepSVDDLossImpl::update_radius(const at::Tensor& distances) {
  if (nu == 0 || distances.numel() == 0) return;
  const torch::NoGradGuard no_grad;
  radius.copy_(svdd_radius(distances, nu));
}

DeepSADLossImpl::DeepSADLossImpl(std::int64_t dimension, double eta_, double eps_)
    : eta(eta_), eps(eps_) {
  center = register_buffer("center", torch::zeros({dimension}));
}

at::Tensor DeepSADLossImpl::distance(const at::Tensor& embedding) {
  return to_center(embedding, center);
}

at::Tensor DeepSADLossImpl::forward(const at::Tensor& embedding, const at::Tensor& semi_target) {
  return sad_loss(distance(embedding), semi_target, eta, eps, "mean");
}

}  // namespace ood::nn
