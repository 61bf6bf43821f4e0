#pragma once

#include "ood/models/batch_norm.h"

namespace ood {

/// The half of an autoencoder that gives pictures back from what a network makes of them: of at most
/// 32 x 32, so that its work does not grow with theirs.
class PictureReconstruction : public torch::nn::Module {
 public:
  /// For encodings [N, width] of pictures [N, channels, height, picture_width].
  PictureReconstruction(std::int64_t width, std::int64_t channels, std::int64_t height,
                        std::int64_t picture_width);

  /// encoding [N, width] -> pictures [N, channels, h, w].
  at::Tensor forward(const at::Tensor& encoding);
  /// What these are to be: pictures [N, C, H, W] -> [N, C, h, w], averages over areas.
  at::Tensor target(const at::Tensor& pictures) const;

 private:
  static constexpr std::size_t kSteps = 3;  // of a quarter, a half and the whole size
  std::array<std::array<std::int64_t, 2>, kSteps> sizes_{};
  torch::nn::Linear unfold_{nullptr};
  std::vector<BatchNorm2d> norms_;
  std::vector<torch::nn::Conv2d> convs_;
};

}  // namespace ood
