#include "ood/models/lean_layers.h"
#include "ood/models/networks.h"
#include "ood/models/residual.h"

namespace ood {
namespace {

using residual::conv;
using residual::norm;

constexpr int kBlocks = 6;  // a stage; depth 40 = 6 * 6 + 4
constexpr std::int64_t kWiden = 2;

// x' + conv(relu(norm(conv(relu(norm(x)))))): norms before convolutions.
class PreactBlock : public torch::nn::Module {
 public:
  PreactBlock(std::int64_t in, std::int64_t out, std::int64_t stride, bool affine) {
    norm1_ = register_module("norm1", norm(in, affine));
    conv1_ = register_module("conv1", conv(in, out, 3, stride));
    norm2_ = register_module("norm2", norm(out, affine));
    conv2_ = register_module("conv2", conv(out, out, 3, 1));
    if (stride != 1 || in != out) shortcut_ = register_module("shortcut", conv(in, out, 1, stride));
  }
  at::Tensor forward(const at::Tensor& x) {
    const auto a = torch::relu(norm1_->forward(x));
    const auto y = conv_of_relu_norm(conv1_->forward(a), norm2_, conv2_);
    return y + (shortcut_ ? shortcut_->forward(a) : x);
  }

 private:
  BatchNorm2d norm1_{nullptr}, norm2_{nullptr};
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr}, shortcut_{nullptr};
};

class WideResNet : public Classifier {
 public:
  explicit WideResNet(const NetworkShape& shape) {
    conv_ = register_module("conv", conv(shape.channels, 16, 3, 1));
    std::int64_t in = 16;
    for (int stage = 0; stage < 3; ++stage)
      for (int i = 0; i < kBlocks; ++i) {
        const std::int64_t out = (16 << stage) * kWiden;
        blocks_.push_back(register_module(
            "block" + std::to_string(stage + 1) + std::to_string(i + 1),
            std::make_shared<PreactBlock>(in, out, stage > 0 && i == 0 ? 2 : 1, shape.bias)));
        in = out;
      }
    norm_ = register_module("norm", norm(in, shape.bias));
    make_head(in, shape);
  }

 private:
  at::Tensor embed(const at::Tensor& inputs) override {
    auto x = conv_->forward(inputs);
    for (const auto& block : blocks_) x = block->forward(x);
    return torch::relu(norm_->forward(x)).mean({2, 3});
  }

  torch::nn::Conv2d conv_{nullptr};
  std::vector<std::shared_ptr<PreactBlock>> blocks_;
  BatchNorm2d norm_{nullptr};
};

}  // namespace

std::shared_ptr<Classifier> make_wide_resnet(const NetworkShape& shape) {
  return std::make_shared<WideResNet>(shape);
}

}  // namespace ood
