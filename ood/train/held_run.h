#pragma once

#include <filesystem>
#include <string>

#include "ood/data/task.h"
#include "ood/train/run_options.h"

namespace ood {

/// What the options of two runs of one training have in common, as text.
std::string comparable(RunOptions options);

/// What a run folder holds of a training with these options on this task.
struct HeldRun {
  enum State { kNothing, kUnfinished, kFinished, kOther } state = kNothing;
  std::string difference{};  ///< of kOther: an option with both values, or what else differs
};
HeldRun held_run(const std::filesystem::path& out, const RunOptions& options, const Task& task);

}  // namespace ood
