#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "ood/data/task.h"
#include "ood/models/classifier.h"
#include "ood/train/objective.h"
#include "ood/train/run_options.h"

namespace ood {

TaskOptions task_options(const RunOptions& options);

/// The network and the objective of these options for this task, with weights drawn from the seed.
struct Model {
  std::shared_ptr<Classifier> network;
  std::shared_ptr<Objective> objective;
};
Model new_model(const RunOptions& options, const Task& task);

/// Trains with options.objective and fills the run folder `out`: config.toml, metrics.jsonl,
/// model.safetensors, results.json. Returns what is in results.json for this objective.
/// DivergedError where the loss becomes NaN or infinite; config.toml and metrics.jsonl stay.
nlohmann::ordered_json train_run(const RunOptions& options, const Task& task,
                                 const std::filesystem::path& out);

/// The network and options of a run folder.
struct LoadedRun {
  RunOptions options;
  Task task;
  std::shared_ptr<Classifier> network;
  std::shared_ptr<Objective> objective;
};
/// `change` may alter the options (say, add test sets) before the data is loaded.
LoadedRun load_run(const std::filesystem::path& folder,
                   const std::function<void(RunOptions&)>& change);

/// What results.json holds beside the objectives: version, data and classes.
nlohmann::ordered_json results_header(const RunOptions& options, const Task& task);

/// Creates the folder where needed; DataError where it cannot be written.
void make_run_folder(const std::filesystem::path& out);

}  // namespace ood
