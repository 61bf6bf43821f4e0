#pragma once

#include <filesystem>

#include "ood/data/task.h"
#include "ood/train/run_options.h"

namespace ood {

/// The name of a set, which stands before its path in an item of `ood-data`.
inline std::string ood_set_name(const std::string& item) { return item.substr(0, item.find('=')); }

/// What make_task needs of a run's options. UsageError where they contradict a network's file.
TaskOptions task_options(const RunOptions& options);

/// DataError where the content of the data is not that which a configuration names; `what` was done
/// with that, say "the run was trained".
void check_data(const std::filesystem::path& folder, const RunOptions& options, const Task& task,
                const std::string& what);

}  // namespace ood
