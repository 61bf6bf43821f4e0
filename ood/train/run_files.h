#pragma once

#include <filesystem>

namespace ood {

/// What a run folder has under names that several parts of the program know.
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kCheckpoints = "checkpoints";
inline constexpr const char* kOldRuleFile = "threshold.json";  ///< of a threshold, before format 8

/// The model of a run folder, or the model's file itself. DataError where the folder is that of a
/// comparison, with the name of a run in it.
std::filesystem::path model_of(const std::filesystem::path& run);

}  // namespace ood
