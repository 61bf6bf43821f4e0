#pragma once

#include <functional>

#include "ood/nn/kept_state.h"
#include "ood/torch.h"

namespace ood {

/// A loss and the terms it is the sum of, all scalars; the terms without graph.
struct NamedLosses {
  at::Tensor total;
  std::vector<std::pair<std::string, at::Tensor>> terms;
};

/// What an objective may know of the training it is part of.
struct ObjectiveContext {
  std::int64_t classes;   ///< known classes
  std::int64_t features;  ///< width of the network's features
  std::int64_t epochs = 1;
  /// features -> logits, the network's last layer
  std::function<at::Tensor(const at::Tensor&)> head{};
};

/// Gives the network's outputs and labels for all ID training data, batch by batch, without
/// gradient and in evaluation mode.
using TrainingPass =
    std::function<void(const std::function<void(const NetworkOutput&, const at::Tensor& target)>&)>;

/// Any objective of the registry as the training loop sees it. Its parameters are trained with the
/// network's; its buffers are part of its state.
class Objective : public torch::nn::Module {
 public:
  /// `parameters` in the order of the entry's table.
  Objective(const ObjectiveEntry& entry, std::vector<double> parameters,
            const ObjectiveContext& context);

  const ObjectiveEntry& entry() const { return entry_; }

  using torch::nn::Module::to;
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override {
    kept_.keep_exact([&] { Module::to(device, dtype, non_blocking); });
    home_ = device;
  }
  void to(torch::Device device, bool non_blocking = false) override {
    kept_.keep_exact([&] { Module::to(device, non_blocking); });
    home_ = device;
  }
  void to(torch::Dtype dtype, bool non_blocking = false) override {
    kept_.keep_exact([&] { Module::to(dtype, non_blocking); });
  }

  /// Before the losses of a step, in training mode. `host_target`: the same target on the CPU.
  void before_loss(const NetworkOutput& output, const at::Tensor& target,
                   const at::Tensor& host_target = {});
  /// What a step draws at random, as often as its loss may be computed; undefined: nothing.
  at::Tensor draw(const NetworkOutput& output, const at::Tensor& target,
                  const at::Tensor& host_target = {}) const;
  /// target: class of each row, < 0 for an outlier. Changes nothing.
  NamedLosses forward(const NetworkOutput& output, const at::Tensor& target,
                      const at::Tensor& drawn) const;
  /// After a step, `epoch` of which are done then, also in fractions.
  void after_step(const NetworkOutput& output, const at::Tensor& target, double epoch);
  /// At the events that have a pass.
  void at_event(Event::Kind kind, const TrainingPass& pass);
  /// What of a first batch will not work as meant.
  std::vector<std::string> check(const NetworkOutput& output, const at::Tensor& target) const;

  /// Whether a step of the training reads the network's features.
  bool uses_features() const;

  /// On the device where the output is.
  Readout readout(const NetworkOutput& output) const;

  void set_epoch(double epoch) { epoch_ = epoch; }

 private:
  Event event(Event::Kind kind) const;
  void update_by(const NetworkOutput& output, const at::Tensor& target, const Event& event);

  const ObjectiveEntry& entry_;
  std::vector<double> parameters_;
  ObjectiveContext context_;
  nn::KeptState kept_;
  std::optional<torch::Device> home_{};  // of its state, where it was moved there
  double epoch_ = 0;
  mutable bool warned_ = false;  // once is enough
};

}  // namespace ood
