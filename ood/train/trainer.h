#pragma once

#include <filesystem>
#include <functional>

#include "ood/data/task.h"
#include "ood/train/results.h"
#include "ood/train/run_folder.h"
#include "ood/train/run_options.h"
#include "ood/train/trained.h"

namespace ood {

TaskOptions task_options(const RunOptions& options);

/// What to do with the training that a run folder already holds.
enum class Start {
  kFresh,   ///< UsageError where there is one, finished or not
  kAnew,    ///< drop it
  kResume,  ///< go on from its newest checkpoint
};

/// Trains with options.objective and fills the run folder `out`: config.toml, metrics.jsonl,
/// checkpoints/, model.safetensors (with network.pt2 where that is the network), results.json. Returns what is in results.json for this
/// objective. DivergedError where the loss becomes NaN or infinite; config.toml and metrics.jsonl
/// stay. Interrupted on SIGINT, SIGTERM or SIGHUP: after a checkpoint, or with all results once the
/// last step is done. Every one of several ranks() calls it, and only the first reads and writes the
/// folder; DistributedError where one of them is lost.
ObjectiveResults train_run(const RunOptions& options, const Task& task,
                           const std::filesystem::path& out, Start start = Start::kFresh);

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

/// Results without objectives.
Results results_header(const RunOptions& options, const Task& task);

}  // namespace ood
