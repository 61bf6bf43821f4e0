#pragma once

#include "ood/torch.h"
#include "ood/train/run_options.h"

namespace ood {

/// SGD with Nesterov momentum or AdamW (Loshchilov and Hutter 2019) over `parameters`, as the options
/// say, with state that can be stored. The numbers are those of torch::optim, which takes parameter
/// by parameter: a GPU would wait for the CPU to start hundreds of operations.
class Optimizer {
 public:
  /// The first `of_backbone` parameters have the learning rate `backbone-lr`.
  Optimizer(const RunOptions& options, std::vector<at::Tensor> parameters, std::size_t of_backbone);

  void zero_grad();
  /// Shortens the gradient, all parameters' together, to at most this norm.
  void clip(double norm);
  /// One step with this learning rate.
  void step(double learning_rate);

  /// Its tensors by name; those of parameters that had no gradient yet are missing.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  /// Takes over what state() gave, for the same parameters. DataError where it does not fit.
  void restore(const std::vector<std::pair<std::string, at::Tensor>>& state);

 private:
  // What is kept of a parameter; undefined before its first gradient.
  struct Kept {
    at::Tensor momentum;      // SGD
    at::Tensor mean, square;  // AdamW: moving averages of the gradient and its square
    std::int64_t steps = 0;   // AdamW
  };
  // Those of a group that have a gradient.
  struct Lists;

  Lists lists(std::size_t begin, std::size_t end);
  void sgd(const Lists& l, double lr) const;
  void adamw(const Lists& l, double lr) const;

  std::vector<at::Tensor> parameters_;
  std::vector<Kept> kept_;
  std::size_t of_backbone_;
  double backbone_share_;  // of the learning rate
  bool adamw_;
  double momentum_, weight_decay_;
};

}  // namespace ood
