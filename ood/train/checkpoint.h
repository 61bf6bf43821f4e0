#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "ood/train/model_file.h"
#include "ood/train/optimizer.h"
#include "ood/train/run_files.h"

namespace ood {

/// Where a training stands. Random numbers are functions of seed and step, so that nothing else is
/// needed to go on exactly.
struct Position {
  std::int64_t step = 0;         ///< optimizer steps done
  bool pretrained = false;       ///< what comes before the first is done
  double seconds = 0;            ///< time spent on them
  double epoch_loss = 0;         ///< sum of the losses of the unfinished epoch
  std::int64_t epoch_steps = 0;  ///< steps of it
  double best_accuracy = -1;     ///< on ID validation data
  std::int64_t best_step = 0;
  std::int64_t epochs_without_gain = 0;
};

nlohmann::ordered_json to_json(const Position& position);
/// An exception of json, or DataError, where it is damaged.
Position position_of(const nlohmann::ordered_json& json);

/// The checkpoints of a run folder, checkpoints/step-N.safetensors: written under a temporary name,
/// made durable and renamed. The last two and the best one are kept.
class Checkpoints {
 public:
  /// Of the training of that name, see run_id() of run_options.h.
  explicit Checkpoints(const std::filesystem::path& run, std::string run_id = "")
      : folder_(run / kCheckpoints), run_id_(std::move(run_id)) {}

  void save(const Position& position, const Model& model, const Optimizer& optimizer) const;
  /// The newest that can be used in a training of so many steps, or nothing; one that is damaged or
  /// of another training is told of and passed over.
  std::optional<Position> restore_newest(const Model& model, Optimizer& optimizer,
                                         std::int64_t total) const;
  /// The weights of a step; DataError where it is missing.
  void restore_weights(std::int64_t step, const Model& model) const;
  bool any() const;
  void remove_all() const;

 private:
  std::filesystem::path path(std::int64_t step) const;
  std::vector<std::int64_t> steps() const;  // ascending
  TensorFile read(std::int64_t step) const;

  std::filesystem::path folder_;
  std::string run_id_;
};

}  // namespace ood
