#include "ood/models/picture_reconstruction.h"

#include <algorithm>

#include "ood/models/weight_layout.h"

namespace ood {
namespace {

constexpr std::int64_t kLargest = 32;
constexpr std::array<std::int64_t, 3> kChannels{64, 32, 16};

}  // namespace

PictureReconstruction::PictureReconstruction(std::int64_t width, std::int64_t channels,
                                             std::int64_t height, std::int64_t picture_width) {
  const auto h = std::min(height, kLargest), w = std::min(picture_width, kLargest);
  for (std::size_t i = 0; i < kSteps; ++i) {
    const std::int64_t part = std::int64_t{4} >> i;
    sizes_[i] = {(h + part - 1) / part, (w + part - 1) / part};
    const auto name = std::to_string(i + 1);
    norms_.push_back(register_module("norm" + name, BatchNorm2d(kChannels[i])));
    const auto out = i + 1 < kSteps ? kChannels[i + 1] : channels;
    convs_.push_back(register_module(
        "conv" + name,
        torch::nn::Conv2d(torch::nn::Conv2dOptions(kChannels[i], out, 3).padding(1))));
    set_weight_layout(convs_.back()->weight);
  }
  unfold_ = register_module("unfold",
                            torch::nn::Linear(width, kChannels[0] * sizes_[0][0] * sizes_[0][1]));
}

at::Tensor PictureReconstruction::forward(const at::Tensor& encoding) {
  auto x = unfold_->forward(encoding).view({-1, kChannels[0], sizes_[0][0], sizes_[0][1]});
  for (std::size_t i = 0; i < kSteps; ++i) {
    if (i > 0) x = torch::upsample_nearest2d(x, sizes_[i]);
    x = convs_[i]->forward(torch::relu(norms_[i]->forward(x)));
  }
  return x;
}

at::Tensor PictureReconstruction::target(const at::Tensor& pictures) const {
  return torch::adaptive_avg_pool2d(pictures, sizes_.back());
}

}  // namespace ood
