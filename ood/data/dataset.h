#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

namespace ood {

/// Samples in memory: images as uint8 [N, channels, height, width], labels as int64 [N] from 0.
struct Samples {
  at::Tensor inputs;
  at::Tensor labels;  ///< undefined where there are none

  std::int64_t size() const { return inputs.size(0); }
  /// The samples at these positions.
  Samples select(const std::vector<std::int64_t>& positions) const;
};

/// A labelled data set with its own division into training and test data.
struct Dataset {
  std::string name;
  std::vector<std::string> class_names;
  Samples train;
  Samples test;

  std::int64_t classes() const { return static_cast<std::int64_t>(class_names.size()); }
};

/// `what` is "fashion-mnist" (Debian's package dataset-fashion-mnist) or a folder of idx files:
/// train-images*, train-labels*, and t10k-* or test-* likewise, plain or gzip.
Dataset load_dataset(const std::string& what);

/// Inputs of a further test set: an idx file of pictures, or a folder of idx files, of which the
/// test pictures are used where there are such. Labels play no part.
Samples load_inputs(const std::string& what);

}  // namespace ood
