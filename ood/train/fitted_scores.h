#pragma once

#include <map>
#include <string>
#include <vector>

#include "ood/data/task.h"
#include "ood/models/classifier.h"
#include "ood/scores/p_values.h"
#include "ood/scores/score.h"
#include "ood/train/objective.h"
#include "ood/train/safetensors.h"

namespace ood {

/// The name of the joint score, what names the objective's own, and what names none (the rule of
/// FittedScores).
inline constexpr const char* kJoint = "joint";
inline constexpr const char* kOwnScore = "own";
inline constexpr const char* kAutoScore = "auto";

/// UsageError where no run of that objective has a score of that name.
void check_score_name(const std::string& score, const ObjectiveEntry& objective);

/// Parameters of scores that are not the defaults, by score and name.
using ScoreParameters = std::map<std::string, std::map<std::string, double>>;

/// What a network says of the held-out ID data. Where the first half of them decides something, as the
/// joint score, the second alone sets the threshold, so that its promise holds.
struct HeldOut {
  std::optional<double> accuracy;  ///< none for an objective that does not classify
  std::vector<double> scores;  ///< of the run's score, that set the threshold, ascending; or empty
  NetworkOutput output{};      ///< of all
};

/// Bytes of outputs of a network on training data that are held in memory for fitting; a few scores
/// make copies of them.
inline constexpr std::int64_t kFitBytes = 192 << 20;
/// Positions of at least `most` samples, at random, ascending, with one of each class; empty: all.
std::vector<std::int64_t> samples_to_fit(const at::Tensor& labels, std::int64_t most,
                                         std::uint64_t seed);

/// The scores of a run with what they learned of its training data. "joint" is Fisher's sum of the
/// p-values, with tails, of MDS++ and RMDS, and of the objective's own score where it was trained to tell
/// outliers (it learns from outliers or has a score of its own), else of GEN. Nothing in
/// that rule looks at test data.
class FittedScores {
 public:
  FittedScores() = default;

  /// Fits all scores to the outputs on the training data and the first half of the held-out data.
  /// Of many training samples to so many as have outputs of `most_bytes`, or `bank` where that is more:
  /// see samples_to_fit. `bank`: of how many of these, at random, scores keep the features; 0: of
  /// all.
  static FittedScores fit(Classifier& network, const Objective& objective, const Task& task,
                          std::uint64_t seed, std::int64_t bank,
                          const ScoreParameters& parameters = {},
                          std::int64_t most_bytes = kFitBytes);

  /// The score of a run: what was chosen, else the joint one, or the objective's own where fewer
  /// than 118 samples are held out or neither MDS++ nor RMDS can be fitted.
  std::string run_score(const Objective& objective) const;
  /// Makes another score the run's: one of names(), kOwnScore or kAutoScore. UsageError where it
  /// cannot be computed, with the reason.
  void choose(const std::string& score, const Objective& objective);
  /// Whether the run's score learned of the first half of the held-out data.
  bool learned_of_held_out(const Objective& objective) const;
  const std::vector<std::string>& members() const { return members_; }
  /// All that can be computed: general ones, the objective's own, the joint one.
  std::vector<std::string> names(const Objective& objective) const;
  /// Why the others cannot, in a line each.
  const std::map<std::string, std::string>& unavailable() const { return unavailable_; }

  /// float64 [N]; undefined where the objective says nothing that the score is computed of.
  at::Tensor compute(const std::string& score, const Objective& objective,
                     const NetworkOutput& output) const;
  /// The same of all names(), each computed once.
  std::map<std::string, at::Tensor> compute_all(const Objective& objective,
                                                const NetworkOutput& output) const;

  /// Whether these, all of a run, are of one fit with those that its model has.
  bool hold(const FittedScores& of_model) const;
  /// What choose() has taken, or kAutoScore.
  std::string chosen() const { return chosen_.empty() ? kAutoScore : chosen_; }

  /// Into and from tensors and metadata of a file; only what the run's score takes, or all.
  void write(TensorFile& file, bool all) const;
  static FittedScores read(const TensorFile& file, const std::filesystem::path& path);

 private:
  struct Fitted {
    std::vector<double> parameters;
    std::vector<at::Tensor> state;
  };
  at::Tensor single(const std::string& score, const Objective& objective,
                    const NetworkOutput& output, const Readout& readout) const;
  at::Tensor joined(const std::vector<at::Tensor>& each) const;
  void join(const Objective& objective, const NetworkOutput& held_out);

  std::string chosen_;  ///< "": by the rule
  std::map<std::string, Fitted> fitted_;
  std::map<std::string, std::string> unavailable_;
  std::vector<std::string> members_;
  std::vector<at::Tensor> references_;  ///< scores of the members on held-out data
};

/// Some rows of an output.
NetworkOutput rows_of(const NetworkOutput& output, const at::Tensor& rows);

/// The two halves of held-out data, as indices; a function of seed and size. What is decided by
/// held-out data is decided by the first: the promise of a threshold does not survive a choice by
/// the data that set it.
std::pair<at::Tensor, at::Tensor> held_out_halves(std::int64_t samples, std::uint64_t seed);
/// The samples of the first; of a single one, that.
Samples deciding_half(const Task& task, std::uint64_t seed);

}  // namespace ood
