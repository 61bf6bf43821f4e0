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
  counts = register_exact("counts", torch::zeros({classes}, torch::kLong));
}

void RunningCentersImpl::reset() {
  centers.zero_();
  counts.zero_();
}

void RunningCentersImpl::update(const at::Tensor& embedding, const at::Tensor& target) {
  running_means_update_(centers, counts, embedding, target, momentum_);
}

at::Tensor RunningCentersImpl::forward(const at::Tensor& embedding) {
  return center_distances(embedding, centers, true)
      .masked_fill(present().logical_not(), std::numeric_limits<float>::infinity());
}

}  // namespace ood::nn
