#include "ood/models/networks.h"
#include "ood/models/residual.h"

namespace ood {
namespace {

using residual::conv;
using residual::norm;

// relu(x' + norm(conv(relu(norm(conv(x)))))), x' through a 1x1 convolution where the shape changes.
class BasicBlock : public torch::nn::Module {
 public:
  BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride, bool affine) {
    conv1_ = register_module("conv1", conv(in, out, 3, stride));
    norm1_ = register_module("norm1", norm(out, affine));
    conv2_ = register_module("conv2", conv(out, out, 3, 1));
    norm2_ = register_module("norm2", norm(out, affine));
    if (stride == 1 && in == out) return;
    shortcut_ = register_module("shortcut", conv(in, out, 1, stride));
    shortcut_norm_ = register_module("shortcut_norm", norm(out, affine));
  }
  at::Tensor forward(const at::Tensor& x) {
    auto y = torch::relu(norm1_->forward(conv1_->forward(x)));
    y = norm2_->forward(conv2_->forward(y));
    return torch::relu(y + (shortcut_ ? shortcut_norm_->forward(shortcut_->forward(x)) : x));
  }

 private:
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr}, shortcut_{nullptr};
  BatchNorm2d norm1_{nullptr}, norm2_{nullptr}, shortcut_norm_{nullptr};
};

class ResNet18 : public Classifier {
 public:
  explicit ResNet18(const NetworkShape& shape) {
    conv_ = register_module("conv", conv(shape.channels, 64, 3, 1));
    norm_ = register_module("norm", norm(64, shape.bias));
    std::int64_t in = 64;
    for (int stage = 0; stage < 4; ++stage)
      for (int i = 0; i < 2; ++i) {
        const std::int64_t out = 64 << stage;
        blocks_.push_back(register_module(
            "block" + std::to_string(stage + 1) + std::to_string(i + 1),
            std::make_shared<BasicBlock>(in, out, stage > 0 && i == 0 ? 2 : 1, shape.bias)));
        in = out;
      }
    make_head(512, shape);
  }

 private:
  at::Tensor embed(const at::Tensor& inputs) override {
    auto x = torch::relu(norm_->forward(conv_->forward(inputs)));
    for (const auto& block : blocks_) x = block->forward(x);
    return x.mean({2, 3});
  }

  torch::nn::Conv2d conv_{nullptr};
  BatchNorm2d norm_{nullptr};
  std::vector<std::shared_ptr<BasicBlock>> blocks_;
};

}  // namespace

std::shared_ptr<Classifier> make_resnet18(const NetworkShape& shape) {
  return std::make_shared<ResNet18>(shape);
}

}  // namespace ood
