#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

#include "ood/data/files.h"
#include "ood/train/run_options.h"

namespace ood {

/// Creates the folder where needed; DataError where it cannot be written.
void make_run_folder(const std::filesystem::path& out);

/// Whether the folder holds results or a model of a training.
bool holds_results(const std::filesystem::path& out);
/// UsageError where the training to come starts from what remove_training would remove, or would
/// write over a file that is no run's.
void check_removal(const std::filesystem::path& out, const RunOptions& to_come);
/// Removes them, everything that was made of them, and checkpoints, after that check.
void remove_training(const std::filesystem::path& out, const RunOptions& to_come);

/// Keeps a second program out of a run folder for as long as it lives; the lock goes with the
/// process, however that ends.
class RunLock {
 public:
  explicit RunLock(const std::filesystem::path& folder);

 private:
  OpenFile file_;
};

/// metrics.jsonl: one object a line, written at once so that a crash loses nothing.
class MetricsLog {
 public:
  /// Starts anew, or goes on after the line of `steps`: what later steps wrote is dropped.
  MetricsLog(const std::filesystem::path& folder, std::int64_t steps);

  void write(const nlohmann::ordered_json& object);
  /// Returns once what was written survives a power cut.
  void make_durable();

 private:
  std::filesystem::path path_;
  OpenFile file_;
};

/// The objects of a log.
std::vector<nlohmann::ordered_json> read_metrics(const std::filesystem::path& folder);

}  // namespace ood
