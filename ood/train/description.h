#pragma once

#include <nlohmann/json_fwd.hpp>

#include "ood/data/task.h"
#include "ood/models/network_file.h"
#include "ood/train/model_file.h"
#include "ood/train/run_options.h"

namespace ood {

/// All that is needed to use a trained network without its training data; part of its file.
struct ModelDescription {
  std::string model, objective;
  std::vector<double> parameters;  ///< of the objective, in the order of its table
  std::int64_t channels = 0, height = 0, width = 0;
  std::vector<std::string> class_names;
  std::vector<double> mean, deviation;  ///< of the inputs, a channel
  bool embeddings = false;
  std::string alpha = "black";  ///< what shows where a picture is transparent, see parse_colour
  bool crop = false;  ///< pictures are brought to height and width by cutting, not by squashing
  std::int64_t seed = 0, epochs = 1;
  /// Of machine code of the user's own, which stays beside the model: its checksum.
  std::string package{};
  /// Of a network of the user's own. Not in the JSON.
  NetworkFile file{};
};

ModelDescription describe(const RunOptions& options, const Task& task);

/// Whether it has neither classes nor outliers to tell apart.
inline bool learns_one_kind(const ObjectiveEntry& entry) {
  return !entry.classifies && !entry.uses_ood;
}

nlohmann::ordered_json to_json(const ModelDescription& description);
/// DataError where a field is missing.
ModelDescription description_of(const nlohmann::ordered_json& json);

/// DataError where a description cannot be that of a model of so many numbers: before anything is
/// allocated for it.
void check_description(const ModelDescription& description, std::int64_t numbers);

/// The network and the objective of a description, with weights drawn from its seed, or of its
/// file. `trains`: not for the last layer alone.
Model make_model(const ModelDescription& description, bool trains = false);

}  // namespace ood
