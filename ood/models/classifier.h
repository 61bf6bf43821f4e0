#pragma once

#include "ood/scores/scores.h"
#include "ood/torch.h"

namespace ood {

/// A network that gives logits and the features before its last layer.
class Classifier : public torch::nn::Module {
 public:
  /// inputs as `normalised` gives them.
  virtual NetworkOutput forward(const at::Tensor& inputs) = 0;
  /// The last layer: features -> logits.
  virtual at::Tensor head(const at::Tensor& features) = 0;
  /// Width of the features.
  virtual std::int64_t features() const = 0;
};

/// Channels, height and width of the inputs, and the number of logits.
struct NetworkShape {
  std::int64_t channels, height, width, classes;
  bool bias = true;  ///< false: no layer adds a constant, as one-class objectives need it
};

/// "small-cnn", "mlp", "linear", "resnet-18" or "wrn-40-2". UsageError names the known ones.
std::shared_ptr<Classifier> make_network(const std::string& name, const NetworkShape& shape);

}  // namespace ood
