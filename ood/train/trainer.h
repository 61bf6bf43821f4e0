#pragma once

#include <filesystem>

#include "ood/data/task.h"
#include "ood/train/results.h"
#include "ood/train/run_options.h"

namespace ood {

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

}  // namespace ood
