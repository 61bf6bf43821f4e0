#pragma once

#include "ood/torch.h"
#include "ood/train/run_options.h"

namespace ood {

/// SGD with Nesterov momentum or AdamW over `parameters`, as the options say, with state that can
/// be stored.
class Optimizer {
 public:
  /// The first `of_backbone` parameters have the learning rate `backbone-lr`.
  Optimizer(const RunOptions& options, std::vector<at::Tensor> parameters, std::size_t of_backbone);

  void zero_grad() { optimizer_->zero_grad(); }
  /// Shortens the gradient, all parameters' together, to at most this norm.
  void clip(double norm);
  /// One step with this learning rate.
  void step(double learning_rate);

  /// Its tensors by name; those of parameters that had no gradient yet are missing.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  /// Takes over what state() gave, for the same parameters. DataError where it does not fit.
  void restore(const std::vector<std::pair<std::string, at::Tensor>>& state);

 private:
  std::vector<at::Tensor> parameters_;
  std::vector<double> shares_;  // of the learning rate, by group
  bool adamw_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace ood
