#pragma once

#include <string>
#include <vector>

#include "ood/data/task.h"

namespace ood {

/// In an order that depends on the samples alone, so that a data set gives the same training in
/// whatever format and order its files are.
Samples in_order_of_content(const Samples& s);

/// Numbers for the content of every sample of a task, which must outlive this.
class TaskContent {
 public:
  explicit TaskContent(const Task& task);

  /// Warns of pictures that are in two parts of a task: outliers or known in training and OOD in a
  /// test, or in training and held-out or test data.
  void warn_of_overlap() const;

  /// Of the content of the samples that a training sees, and of those it is tested on.
  std::string training_fingerprint() const;
  std::string test_fingerprint() const;

 private:
  struct Part {
    const Samples* samples;
    std::vector<std::uint64_t> hashes;
  };

  const Task& task_;
  Part train_, train_outliers_, validation_, validation_outliers_, test_;
  std::vector<Part> ood_;  // as in the task
};

}  // namespace ood
