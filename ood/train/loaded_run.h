#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "ood/data/task.h"
#include "ood/train/run_options.h"
#include "ood/train/trained.h"

namespace ood {

/// Options, data and model of a run folder.
struct LoadedRun {
  RunOptions options;
  Task task;
  Trained trained;
};
/// `change` may alter the options (say, add test sets) before the data is loaded. The network
/// computes on `device`, see open_device of device.h. Where few training samples will be looked at,
/// pictures of the training that are known from an earlier reading are not decoded.
LoadedRun load_run(const std::filesystem::path& folder,
                   const std::function<void(RunOptions&)>& change,
                   const std::string& device = "cpu", bool few_of_training = false);

}  // namespace ood
