#pragma once

#include <functional>

#include "ood/objectives/registry.h"
#include "ood/scores/scores.h"
#include "ood/torch.h"

namespace ood {

/// A loss and the terms it is the sum of, all scalars.
struct Losses {
  at::Tensor total;
  std::vector<std::pair<std::string, at::Tensor>> terms;
};

/// The sum of these terms.
Losses sum_of(std::vector<std::pair<std::string, at::Tensor>> terms);

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

/// An objective as the training loop sees it. Its parameters are trained with the network's; its
/// buffers are part of its state.
class Objective : public torch::nn::Module {
 public:
  /// target: class of each row, < 0 for an outlier.
  virtual Losses forward(const NetworkOutput& output, const at::Tensor& target) = 0;

  /// Before the first step, for centers that are initialised from the data.
  virtual void begin(const TrainingPass&) {}
  /// After each step, without gradient.
  virtual void after_step(const NetworkOutput&, const at::Tensor& /*target*/) {}
  /// At the end of each epoch.
  virtual void after_epoch(const TrainingPass&) {}
  /// After the last step, for state that the test needs.
  virtual void finish(const TrainingPass&) {}

  /// [N, K], the larger the likelier the class; undefined for an objective that does not classify.
  virtual at::Tensor class_evidence(const NetworkOutput& output) const {
    return class_logits(output);
  }
  /// Logits of classes [N, K], for the general scores; undefined where the training gives none.
  virtual at::Tensor class_logits(const NetworkOutput& output) const { return output.logits; }
  /// The objective's own score [N], higher for OOD; undefined: the score of that name in scores.h.
  virtual at::Tensor own_score(const NetworkOutput&) const { return {}; }

  /// Epochs of the training that are done, also in fractions; the training loop keeps it.
  double epoch() const { return epoch_; }
  void set_epoch(double epoch) { epoch_ = epoch; }

 private:
  double epoch_ = 0;
};

/// The objective of that entry with these parameters, in the order of the entry's table.
std::shared_ptr<Objective> make_objective(const ObjectiveEntry& entry,
                                          const std::vector<double>& parameters,
                                          const ObjectiveContext& context);

/// Makes objectives that are more than a formula known to make_objective; returns true.
using ObjectiveMaker = std::shared_ptr<Objective> (*)(const std::vector<double>& parameters,
                                                      const ObjectiveContext& context);
bool register_objective_module(std::string_view name, ObjectiveMaker maker);

}  // namespace ood
