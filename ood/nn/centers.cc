#include "ood/nn/centers.h"

#include <limits>

#include "ood/torch.h"

namespace ood::nn {

ClassCentersImpl::ClassCentersImpl(std::int64_t classes, std::int64_t dimension, double magnitude,
                                   bool fixed) {
  auto start = torch::randn({classes, dimension}) * magnitude;
  centers = fixed ? register_buffer("centers", start) : register_parameter("centers", start);
}

RunningCentersImpl::RunningCentersImpl(std::int64_t classes, std::int64_t dimension,
                                       double momentum)
    : momentum_(momentum) {
  centers = register_buffer("centers", torch::zeros({classes, dimension}));
  counts = register_buffer("counts", torch::zeros({classes}, torch::kLong));
}

void RunningCentersImpl::reset() {
  centers.zero_();
  counts.zero_();
}

void RunningCentersImpl::update(const at::Tensor& embedding, const at::Tensor& target) {
  const torch::NoGradGuard no_grad;
  const auto [means, fresh] =
      class_means(embedding.detach().to(centers.scalar_type()), target, centers.size(0));
  const auto seen = fresh.gt(0);
  const auto total = counts + fresh;
  auto step = fresh.to(centers.scalar_type()) / total.clamp_min(1).to(centers.scalar_type());
  if (momentum_ > 0) step = torch::where(counts.gt(0), torch::full_like(step, momentum_), step);
  step = torch::where(seen, step, torch::zeros_like(step));
  centers.add_(step.unsqueeze(1) * (means - centers));
  counts.copy_(total);
}

at::Tensor RunningCentersImpl::forward(const at::Tensor& embedding) {
  return center_distances(embedding, centers, true)
      .masked_fill(present().logical_not(), std::numeric_limits<float>::infinity());
}

}  // namespace ood::nn
