#pragma once

#include "ood/train/description.h"
#include "ood/train/fitted_scores.h"
#include "ood/train/threshold_rule.h"

namespace ood {

/// What model.safetensors holds, and machine code of the user's own beside it (see package_file.h): the
/// weights, how inputs are prepared, what the run's score learned, and the scores of the held-out in-distribution data, from which a threshold
/// of any share is set.
struct Trained {
  ModelDescription description;
  Model model;
  FittedScores scores;  ///< what the run's score takes
  std::vector<double> validation_scores;
  std::string run_id{};  ///< see run_id() of run_options.h
  /// Where they come from: a path; "": the data that the training held out.
  std::string validated_on{};
  std::optional<ThresholdRule> rule{};  ///< that `ood threshold` has set
};

void save_trained(const std::filesystem::path& path, const Trained& trained);

/// All scores of a run, in its folder; DataError where the file is missing or damaged.
void save_scores(const std::filesystem::path& folder, const FittedScores& scores,
                 const std::string& run_id);
/// DataError where they are of another training than the run of that name.
FittedScores load_scores(const std::filesystem::path& folder, const std::string& run_id);

/// In evaluation mode. DataError where the file is missing, damaged or of another format.
Trained load_trained(const std::filesystem::path& path);

/// Its network computes on that device from now on, as open_device gives it. UsageError where it
/// cannot be there.
void compute_on(c10::Device device, const Trained& trained);

/// With new weights, or, where the options name a run or a file of weights, with those as far as
/// they fit; the last layer may have other classes. Where they freeze the network, it is. DataError
/// where the run has another network or nothing fits; UsageError where the network is to be frozen
/// and anything before its last layer does not fit.
Model initial_model(const ModelDescription& description, const RunOptions& options,
                    bool filled = true);

}  // namespace ood
