#pragma once

#include "ood/data/task.h"
#include "ood/train/results.h"
#include "ood/train/run_options.h"

namespace ood {

/// Results without objectives.
Results results_header(const RunOptions& options, const Task& task);

/// Of each known class its name and how many training and test samples it has.
std::vector<ClassCount> class_counts(const Task& task);

}  // namespace ood
