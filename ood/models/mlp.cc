#include "ood/models/batch_norm.h"
#include "ood/models/networks.h"

namespace ood {
namespace {

constexpr std::int64_t kHidden = 256, kFeatures = 64;

class Mlp : public Classifier {
 public:
  explicit Mlp(const NetworkShape& shape) {
    const auto linear = [&](std::int64_t in, std::int64_t out) {
      return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(shape.bias));
    };
    first_ =
        register_module("hidden1", linear(shape.channels * shape.height * shape.width, kHidden));
    norm_ = register_module("norm1",
                            BatchNorm1d(torch::nn::BatchNorm1dOptions(kHidden).affine(shape.bias)));
    second_ = register_module("hidden2", linear(kHidden, kFeatures));
    make_head(kFeatures, shape);
  }

 private:
  at::Tensor embed(const at::Tensor& inputs) override {
    const auto x = torch::relu(norm_->forward(first_->forward(inputs.contiguous().flatten(1))));
    return torch::relu(second_->forward(x));
  }

  torch::nn::Linear first_{nullptr}, second_{nullptr};
  BatchNorm1d norm_{nullptr};
};

}  // namespace

std::shared_ptr<Classifier> make_mlp(const NetworkShape& shape) {
  return std::make_shared<Mlp>(shape);
}

}  // namespace ood
