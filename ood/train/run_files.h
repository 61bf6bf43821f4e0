#pragma once

#include <filesystem>

namespace ood {

/// What a run folder has under names that several parts of the program know.
inline constexpr const char* kConfigFile = "config.toml";
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kScoresFile = "scores.safetensors";           ///< all that are fitted
inline constexpr const char* kTestScoresFile = "test_scores.safetensors";  ///< of each test sample
inline constexpr const char* kResultsFile = "results.json";
inline constexpr const char* kReportFile = "report.html";
inline constexpr const char* kEvalResultsFile = "eval.json";
inline constexpr const char* kEvalReportFile = "eval.html";
inline constexpr const char* kCheckpoints = "checkpoints";
inline constexpr const char* kOldRuleFile = "threshold.json";  ///< of a threshold, before format 8

/// The model of a run folder, or the model's file itself. DataError where the folder is that of a
/// comparison, with the name of a run in it.
std::filesystem::path model_of(const std::filesystem::path& run);

}  // namespace ood
