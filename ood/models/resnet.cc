#include "ood/models/lean_layers.h"
#include "ood/models/networks.h"
#include "ood/models/residual.h"

namespace ood {
namespace {

using residual::conv;
using residual::norm;
using torch::nn::Sequential;

// Names of members are torchvision's, so that its weights load as they are.

Sequential shortcut(std::int64_t in, std::int64_t out, std::int64_t stride, bool affine) {
  return Sequential(conv(in, out, 1, stride), norm(out, affine));
}

// relu(x' + bn(conv(relu(bn(conv(x)))))), x' through a 1x1 convolution where the shape changes.
class BasicBlock : public torch::nn::Module {
 public:
  static constexpr std::int64_t kWiden = 1;

  BasicBlock(std::int64_t in, std::int64_t width, std::int64_t stride, bool affine) {
    conv1_ = register_module("conv1", conv(in, width, 3, stride));
    bn1_ = register_module("bn1", norm(width, affine));
    conv2_ = register_module("conv2", conv(width, width, 3, 1));
    bn2_ = register_module("bn2", norm(width, affine));
    if (stride != 1 || in != width)
      downsample_ = register_module("downsample", shortcut(in, width, stride, affine));
  }
  at::Tensor forward(const at::Tensor& x) {
    const auto y = bn2_->forward(conv_of_relu_norm(conv1_->forward(x), bn1_, conv2_));
    return torch::relu(y + (downsample_ ? downsample_->forward(x) : x));
  }

 private:
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr};
  BatchNorm2d bn1_{nullptr}, bn2_{nullptr};
  Sequential downsample_{nullptr};
};

// The same of three convolutions: 1x1 to `width`, 3x3, 1x1 to four times that.
class Bottleneck : public torch::nn::Module {
 public:
  static constexpr std::int64_t kWiden = 4;

  Bottleneck(std::int64_t in, std::int64_t width, std::int64_t stride, bool affine) {
    const std::int64_t out = width * kWiden;
    conv1_ = register_module("conv1", conv(in, width, 1, 1));
    bn1_ = register_module("bn1", norm(width, affine));
    conv2_ = register_module("conv2", conv(width, width, 3, stride));
    bn2_ = register_module("bn2", norm(width, affine));
    conv3_ = register_module("conv3", conv(width, out, 1, 1));
    bn3_ = register_module("bn3", norm(out, affine));
    if (stride != 1 || in != out)
      downsample_ = register_module("downsample", shortcut(in, out, stride, affine));
  }
  at::Tensor forward(const at::Tensor& x) {
    auto y = conv_of_relu_norm(conv1_->forward(x), bn1_, conv2_);
    y = bn3_->forward(conv_of_relu_norm(y, bn2_, conv3_));
    return torch::relu(y + (downsample_ ? downsample_->forward(x) : x));
  }

 private:
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr}, conv3_{nullptr};
  BatchNorm2d bn1_{nullptr}, bn2_{nullptr}, bn3_{nullptr};
  Sequential downsample_{nullptr};
};

template <class Block>
class ResNet : public Classifier {
 public:
  ResNet(const NetworkShape& shape, const std::array<int, 4>& blocks)
      : large_(std::min(shape.height, shape.width) > kLargestSmall) {
    conv1_ = register_module(
        "conv1", large_ ? conv(shape.channels, 64, 7, 2) : conv(shape.channels, 64, 3, 1));
    bn1_ = register_module("bn1", norm(64, shape.bias));
    std::int64_t in = 64;
    for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
      const std::int64_t width = 64 << stage;
      Sequential layer;
      for (int i = 0; i < blocks[stage]; ++i) {
        layer->push_back(
            std::make_shared<Block>(in, width, stage > 0 && i == 0 ? 2 : 1, shape.bias));
        in = width * Block::kWiden;
      }
      layers_.push_back(register_module("layer" + std::to_string(stage + 1), layer));
    }
    make_head(in, shape);
  }

 private:
  at::Tensor embed(const at::Tensor& inputs) override {
    auto x = conv1_->forward(inputs);
    x = large_ ? relu_of_pooled_norm(x, bn1_) : torch::relu(bn1_->forward(x));
    for (auto& layer : layers_) x = layer->forward(x);
    return x.mean({2, 3});
  }

  bool large_;  // pictures of photos' size, which the first layers make a quarter as wide
  torch::nn::Conv2d conv1_{nullptr};
  BatchNorm2d bn1_{nullptr};
  std::vector<Sequential> layers_;
};

}  // namespace

std::shared_ptr<Classifier> make_resnet18(const NetworkShape& shape) {
  return std::make_shared<ResNet<BasicBlock>>(shape, std::array{2, 2, 2, 2});
}

std::shared_ptr<Classifier> make_resnet34(const NetworkShape& shape) {
  return std::make_shared<ResNet<BasicBlock>>(shape, std::array{3, 4, 6, 3});
}

std::shared_ptr<Classifier> make_resnet50(const NetworkShape& shape) {
  return std::make_shared<ResNet<Bottleneck>>(shape, std::array{3, 4, 6, 3});
}

}  // namespace ood
