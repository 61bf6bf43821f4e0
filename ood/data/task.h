#pragma once

#include <map>
#include <string>
#include <vector>

#include "ood/data/dataset.h"

namespace ood {

/// What to learn and what to test on.
struct TaskOptions {
  std::string data = "fashion-mnist";
  /// Classes by number, range or name: "0,2-4,boot"; see class_list.h.
  std::string known;     ///< to learn; empty: all that are in no other list
  std::string outliers;  ///< used as outliers in training, never in the test; or a path
  std::string unknown;   ///< kept for the test
  std::vector<std::pair<std::string, std::string>> ood_data;  ///< further test sets, name and path
  double validation = 0.1;       ///< share of the training data that is held out
  std::int64_t limit_train = 0;  ///< at most so many training samples of ID and of outliers; 0: all
  std::int64_t limit_test = 0;   ///< at most so many samples a test set; 0: all
  std::uint64_t seed = 0;
  PictureOptions pictures;
  /// Normalisation, a number a channel, pictures in 0..1; empty: by the training data.
  std::vector<double> mean{}, deviation{};
  std::string synthetic_outliers;  ///< kinds made from the training data, see synthetic_outliers.h
};

/// An open-set task. Labels of ID samples are renumbered 0 .. K-1 in the order of `known`; OOD and
/// outlier samples have label -1.
struct Task {
  std::string data;
  std::vector<std::string> class_names;  ///< of the K known classes
  std::vector<std::string> outlier_names, unknown_names;
  bool outliers_are_classes = false;  ///< of the data set that the known ones are of
  Samples train, train_outliers;
  Samples validation, validation_outliers;
  Samples test;
  std::vector<std::pair<std::string, Samples>> ood;  ///< test sets by name
  std::vector<double> mean, deviation;  ///< of the training data, a channel; pictures in 0..1
  bool embeddings = false;              ///< inputs are [N, D, 1, 1]
  /// Of the content of what is trained with, and of what is tested on.
  std::string fingerprint, test_fingerprint;

  std::int64_t classes() const { return static_cast<std::int64_t>(class_names.size()); }
};

/// Loads the data and divides it; UsageError and DataError say what does not fit. What the data set
/// holds out itself (val/) is held out instead of a share of the training data.
Task make_task(const TaskOptions& options);

/// Pictures with as many channels as there are constants, grey as colour or the other way round;
/// DataError where that cannot be.
Inputs channels_for(const Inputs& pictures, const std::vector<double>& mean,
                    const std::string& name);

/// Inputs as the network takes them: float32, normalised, channels-last.
at::Tensor normalised(const at::Tensor& inputs, const std::vector<double>& mean,
                      const std::vector<double>& deviation);
inline at::Tensor normalised(const Task& task, const at::Tensor& inputs) {
  return normalised(inputs, task.mean, task.deviation);
}

}  // namespace ood
