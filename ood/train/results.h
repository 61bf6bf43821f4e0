#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ood/metrics/detection.h"
#include "ood/metrics/open_set.h"

/// What a test has found, as results.json and eval.json hold it: written and read by one list of
/// fields, and what tables and reports are made of.
namespace ood {

/// By name, in the order in which they came.
template <class T>
class ByName {
 public:
  using mapped_type = T;

  T& operator[](const std::string& name) {
    for (auto& item : items_)
      if (item.first == name) return item.second;
    return items_.emplace_back(name, T{}).second;
  }
  /// std::out_of_range where there is none.
  const T& at(const std::string& name) const {
    for (const auto& item : items_)
      if (item.first == name) return item.second;
    throw std::out_of_range(name);
  }
  bool contains(const std::string& name) const {
    for (const auto& item : items_)
      if (item.first == name) return true;
    return false;
  }
  bool empty() const { return items_.empty(); }
  std::size_t size() const { return items_.size(); }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<std::pair<std::string, T>> items_;
};

/// On the same test samples, how far the AUROC of another objective is above: a 95 % interval.
struct BehindBest {
  std::string objective;
  double low = 0, high = 0;
};

/// The run's score on one OOD set.
struct SetResults {
  Detection detection{};
  Interval auroc{};  ///< 95 %, by the bootstrap
  std::int64_t samples = 0;
  std::optional<double> rejected{};   ///< share that the run's threshold rejects
  std::optional<OpenSet> open_set{};  ///< of an objective that classifies
  std::optional<BehindBest> behind_best{};
};

/// Shares of the samples in bins of one width from low to high.
struct Histogram {
  double low = 0, high = 0;
  std::vector<double> id, ood;
};

struct SetCurves {
  std::vector<std::pair<double, double>> roc;  ///< shares of ID and of OOD inputs that are rejected
  Histogram histogram;
};

/// The AUROC over trainings with other seeds.
struct OverSeeds {
  double mean = 0, sd = 0;
  std::vector<double> runs;
};

/// By step.
using TrainingCurve = std::vector<std::pair<std::int64_t, double>>;

struct ObjectiveResults {
  std::string objective;
  std::map<std::string, double> parameters;
  double seconds = 0;                       ///< of the training
  std::optional<std::int64_t> steps{};      ///< none: only tested
  std::optional<std::int64_t> best_step{};  ///< whose weights were taken, where that was chosen
  std::string score;                        ///< the run's
  std::vector<std::string> members{};       ///< of a joint score
  std::string own_score;                    ///< the objective's
  std::optional<double> accuracy{};         ///< none: it does not classify
  std::vector<std::optional<double>> class_accuracy{};  ///< [K] or empty; none: no test samples
  std::optional<Calibration> calibration{};             ///< of the logits of classes
  std::int64_t test_samples = 0;
  std::optional<double> validation_accuracy{};
  std::optional<double> false_alarms{}, false_alarms_confidence{};  ///< none: nothing was held out
  std::optional<std::int64_t> threshold_samples{};                  ///< that set the threshold
  std::optional<double> threshold{};
  std::optional<double> test_rejected{};  ///< share of the test samples that the threshold rejects
  ByName<SetResults> ood{};               ///< by set, of the run's score
  ByName<ByName<Detection>> scores{};     ///< of each score, by set
  ByName<ByName<Detection>> groups{};     ///< means over the sets of a group
  std::map<std::string, std::string> unavailable_scores{};  ///< with the reason
  ByName<SetCurves> curves{};                               ///< by set, of the run's score
  std::vector<std::string> failure_signs{};                 ///< see failure_signs.h
  ByName<TrainingCurve> training{};                         ///< loss and terms
  ByName<OverSeeds> over_seeds{};                           ///< by set, of several trainings

  bool learned() const { return failure_signs.empty(); }
  /// Of the run's score on a set, of several seeds their mean.
  double auroc(const std::string& set) const {
    return over_seeds.empty() ? ood.at(set).detection.auroc : over_seeds.at(set).mean;
  }
  /// The mean of these over the sets of a group.
  double group_auroc(const std::string& group) const;
};

struct ClassCount {
  std::string name;
  std::int64_t train = 0, test = 0;  ///< samples
};

struct Results {
  std::string version;
  std::string data, name;  ///< the path, and what the data set is called
  std::string data_fingerprint;
  std::vector<std::string> known, outliers, unknown;  ///< classes
  bool outliers_are_classes = false;  ///< of the data set that the known ones are of
  std::vector<ClassCount> classes;
  std::int64_t train_samples = 0, outlier_samples = 0;
  std::string config;  ///< TOML
  std::vector<ObjectiveResults> objectives;

  /// Names of the OOD sets.
  std::vector<std::string> sets() const;
};

/// Whole or not at all.
void write_results(const std::filesystem::path& file, const Results& results);

/// A run's or a comparison's results.json; DataError where it is none.
Results read_results(const std::filesystem::path& folder);

}  // namespace ood
