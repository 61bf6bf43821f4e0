#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>

#include "ood/data/task.h"
#include "ood/distributed/ranks.h"
#include "ood/models/classifier.h"
#include "ood/train/fitted_scores.h"
#include "ood/train/results.h"
#include "ood/train/threshold_rule.h"

namespace ood {

/// What a network says of all inputs, in evaluation mode and without gradients; several ranks share
/// the work, and each gets all.
NetworkOutput run_network(Classifier& network, const std::vector<double>& mean,
                          const std::vector<double>& deviation, const Inputs& inputs,
                          const Ranks& ranks = one_process());
inline NetworkOutput run_network(Classifier& network, const Task& task, const Samples& samples) {
  return run_network(network, task.mean, task.deviation, samples.inputs, ranks());
}

/// The same in parts, of the rows from `begin` on, in order.
void run_in_parts(Classifier& network, const std::vector<double>& mean,
                  const std::vector<double>& deviation, const Inputs& inputs,
                  const std::function<void(const NetworkOutput&, std::int64_t begin)>& visit,
                  const Ranks& ranks = one_process());

/// Scores as numbers; DivergedError where there is a NaN among them.
std::vector<double> score_numbers(const at::Tensor& scores, const std::string& what);

/// The energies -logsumexp x of ID data and of the outliers that a task has: of those held out, of ID
/// data the deciding half by that seed, where there are some: trained data look better than they are. `what`
/// is what an error names.
struct Energies {
  std::vector<double> id, outliers;
};
Energies energies_of(Classifier& network, const Task& task, std::uint64_t seed,
                     const std::string& what);

/// Share of rows whose largest evidence is that of the label; evidence must be defined.
double accuracy(const at::Tensor& evidence, const at::Tensor& labels);

/// The same of the rows of each class; nothing for a class without rows.
std::vector<std::optional<double>> class_accuracy(const at::Tensor& evidence,
                                                  const at::Tensor& labels, std::int64_t classes);

/// What a network says of the held-out ID data; `decided`: of the training the first half decided
/// something (see held_out_decides), so that the second alone sets the threshold. `seed` is the run's.
HeldOut test_held_out(Classifier& network, const Objective& objective, const Task& task,
                      const FittedScores& scores, std::uint64_t seed, bool decided);

/// The same with scores that are known.
HeldOut held_out_with(Classifier& network, const Objective& objective, const Task& task,
                      std::vector<double> scores);

/// The run's score of every test sample, for comparisons on the same samples.
struct TestScores {
  std::vector<double> id;
  std::map<std::string, std::vector<double>> ood;  ///< by set
};
/// In the run folder, whole or not at all; DataError where they are missing, damaged or of another
/// run.
void save_test_scores(const std::filesystem::path& folder, const TestScores& scores,
                      const std::string& run_id);
TestScores load_test_scores(const std::filesystem::path& folder, const std::string& run_id);

/// Tests the network: of its results accuracy, calibration and threshold, and how well each score
/// detects each OOD test set.
ObjectiveResults evaluate(Classifier& network, const Objective& objective, const Task& task,
                          const FittedScores& scores, const HeldOut& held_out,
                          const ThresholdRule& rule, std::uint64_t seed,
                          TestScores* test_scores = nullptr);

}  // namespace ood
