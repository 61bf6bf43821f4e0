#pragma once

#include "ood/models/batch_norm.h"
#include "ood/models/classifier.h"
#include "ood/models/weight_layout.h"

/// What the residual networks share.
namespace ood::residual {

inline BatchNorm2d norm(std::int64_t channels, bool affine) {
  return BatchNorm2d(torch::nn::BatchNorm2dOptions(channels).affine(affine));
}

/// A convolution without bias, initialised after He et al. 2015, its weights channels-last.
inline torch::nn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel,
                              std::int64_t stride) {
  torch::nn::Conv2d c(
      torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
  torch::nn::init::kaiming_normal_(c->weight, 0, torch::kFanOut, torch::kReLU);
  set_weight_layout(c->weight);
  return c;
}

}  // namespace ood::residual
