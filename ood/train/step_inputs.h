#pragma once

#include <optional>

#include "ood/data/augment.h"
#include "ood/distributed/row_split.h"
#include "ood/train/batches.h"
#include "ood/train/objective.h"
#include "ood/train/run_options.h"

namespace ood {

/// The inputs of a step as the network takes them: drawn, augmented, mixed. A function of seed and
/// step; each rank has its rows of them, and all targets.
class StepInputs {
 public:
  /// UsageError where a batch is too small for the ranks, or `augment` does not fit the inputs.
  StepInputs(const RunOptions& options, const Task& task, std::int64_t outliers_per_step,
             const Ranks& ranks = one_process());

  struct Step {
    at::Tensor inputs, target;
    std::optional<at::Tensor> other_target{};  ///< of mixed samples
    double lambda = 1;                         ///< share of the first target
    at::Tensor host_target{};                  ///< the target on the CPU
  };
  Step at_step(std::int64_t step);
  /// The same as a network takes it: floating-point numbers of a type, on a device.
  Step at_step(std::int64_t step, c10::Device device, at::ScalarType type);

  /// The rows of all ranks from those of this one, in the order of the targets. Without `features`,
  /// which then nothing reads, those stay this rank's.
  NetworkOutput gathered(const NetworkOutput& own, bool features) const;

  std::int64_t steps_per_epoch() const { return batches_.steps_per_epoch(); }

  /// The losses of a step's output: between those of the two targets where samples are mixed.
  static NamedLosses losses(Objective& objective, const NetworkOutput& output, const Step& step);

 private:
  const RunOptions& options_;
  std::int64_t outliers_;
  Augmentation augmentation_;
  Batches batches_;
  RowSplit split_;
  std::vector<std::int64_t> all_rows_;
};

}  // namespace ood
