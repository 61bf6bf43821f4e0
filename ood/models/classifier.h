#pragma once

#include "ood/models/network_names.h"
#include "ood/registry/slice.h"
#include "ood/torch.h"

namespace ood {

/// Channels, height and width of the inputs, and the number of logits.
struct NetworkShape {
  std::int64_t channels, height, width, classes;
  bool bias = true;  ///< false: no layer adds a constant, as one-class objectives need it
};

/// A network that gives logits and the features before its last layer. A network of its own says
/// what the features are; the last layer, "fc", is common to all.
class Classifier : public torch::nn::Module {
 public:
  /// inputs as `normalised` gives them.
  NetworkOutput forward(const at::Tensor& inputs) {
    const auto features = embed(inputs);
    return {head(features), features};
  }
  /// The last layer: features -> logits.
  at::Tensor head(const at::Tensor& features) { return fc_->forward(features); }
  /// Width of the features.
  std::int64_t features() const { return fc_->options.in_features(); }

  /// From now on only the last layer is trained; all before it stays as it is, in evaluation mode.
  void freeze();
  bool frozen() const { return frozen_; }
  void train(bool on = true) override;
  /// Whether a parameter of that name is one of the last layer.
  static bool is_of_head(const std::string& name) { return name.rfind("fc.", 0) == 0; }

 protected:
  /// inputs -> features [B, features()].
  virtual at::Tensor embed(const at::Tensor& inputs) = 0;
  /// Makes the last layer; for the end of a constructor, since weights are drawn in turn.
  void make_head(std::int64_t features, const NetworkShape& shape) {
    fc_ = register_module(
        "fc",
        torch::nn::Linear(torch::nn::LinearOptions(features, shape.classes).bias(shape.bias)));
  }

 private:
  torch::nn::Linear fc_{nullptr};
  bool frozen_ = false;
};

/// A network by its name. UsageError names the known ones.
std::shared_ptr<Classifier> make_network(const std::string& name, const NetworkShape& shape);
/// UsageError where there is no network of that name.
void check_network(const std::string& name);
/// Whether the first layer of that network has weights for every number of an input.
bool takes_all_inputs(const std::string& name);

}  // namespace ood
