#include "ood/models/networks.h"

namespace ood {
namespace {

class LinearHead : public Classifier {
 public:
  explicit LinearHead(const NetworkShape& shape)
      : features_(shape.channels * shape.height * shape.width) {
    fc_ = register_module(
        "fc",
        torch::nn::Linear(torch::nn::LinearOptions(features_, shape.classes).bias(shape.bias)));
  }

  NetworkOutput forward(const at::Tensor& inputs) override {
    NetworkOutput out;
    out.features = inputs.contiguous().flatten(1);
    out.logits = fc_->forward(out.features);
    return out;
  }

  at::Tensor head(const at::Tensor& features) override { return fc_->forward(features); }

  std::int64_t features() const override { return features_; }

 private:
  std::int64_t features_;
  torch::nn::Linear fc_{nullptr};
};

}  // namespace

std::shared_ptr<Classifier> make_linear(const NetworkShape& shape) {
  return std::make_shared<LinearHead>(shape);
}

}  // namespace ood
