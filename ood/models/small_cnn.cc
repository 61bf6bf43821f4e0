#include "ood/errors.h"
#include "ood/models/batch_norm.h"
#include "ood/models/networks.h"
#include "ood/models/weight_layout.h"

namespace ood {
namespace {

// Three blocks of convolution, batch normalisation and ReLU (16, 32, 64 channels, the first two
// followed by a 2x2 maximum), an average over a 3x3 grid, a hidden layer to 64 features, the last
// layer.
constexpr std::int64_t kGrid = 3, kCnnFeatures = 64;

class SmallCnn : public Classifier {
 public:
  explicit SmallCnn(const NetworkShape& shape) {
    const auto conv = [&](const std::string& name, std::int64_t in, std::int64_t out) {
      const auto options = torch::nn::Conv2dOptions(in, out, 3).padding(1).bias(false);
      convs_.push_back(register_module("conv" + name, torch::nn::Conv2d(options)));
      norms_.push_back(register_module(
          "norm" + name, BatchNorm2d(torch::nn::BatchNorm2dOptions(out).affine(shape.bias))));
    };
    const auto linear = [&](std::int64_t in, std::int64_t out) {
      return torch::nn::LinearOptions(in, out).bias(shape.bias);
    };
    conv("1", shape.channels, 16);
    conv("2", 16, 32);
    conv("3", 32, 64);
    hidden_ =
        register_module("hidden", torch::nn::Linear(linear(64 * kGrid * kGrid, kCnnFeatures)));
    make_head(kCnnFeatures, shape);
    for (auto& c : convs_) {
      torch::nn::init::kaiming_normal_(c->weight, 0, torch::kFanOut, torch::kReLU);
      set_weight_layout(c->weight);
    }
  }

 private:
  at::Tensor embed(const at::Tensor& inputs) override {
    auto x = inputs;
    for (std::size_t i = 0; i < convs_.size(); ++i) {
      x = norms_[i]->forward(convs_[i]->forward(x));
      // The largest of four does not care, and relu then has a quarter of the work.
      if (i < 2) x = torch::max_pool2d(x, 2);
      x = torch::relu(x);
    }
    x = torch::adaptive_avg_pool2d(x, {kGrid, kGrid}).flatten(1);
    return torch::relu(hidden_->forward(x));
  }

  std::vector<torch::nn::Conv2d> convs_;
  std::vector<BatchNorm2d> norms_;
  torch::nn::Linear hidden_{nullptr};
};

}  // namespace

std::shared_ptr<Classifier> make_small_cnn(const NetworkShape& shape) {
  if (shape.height < 4 || shape.width < 4)
    throw DataError("small-cnn: expected pictures of at least 4x4, got " +
                    std::to_string(shape.height) + "x" + std::to_string(shape.width));
  return std::make_shared<SmallCnn>(shape);
}

}  // namespace ood
