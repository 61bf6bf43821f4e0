#include "ood/train/results_header.h"

#include "ood/data/numbers.h"
#include "ood/torch.h"
#include "ood/version.h"

namespace ood {
std::vector<ClassCount> class_counts(const Task& task) {
  const auto counts = [&](const Samples& s) {
    return numbers_of<std::int64_t>(torch::bincount(s.labels, {}, task.classes()));
  };
  const auto train = counts(task.train), test = counts(task.test);
  std::vector<ClassCount> list;
  for (std::size_t c = 0; c < train.size(); ++c)
    list.push_back({task.class_names[c], train[c], test[c]});
  return list;
}

Results results_header(const RunOptions& options, const Task& task) {
  Results r;
  r.version = kVersion;
  r.data = options.data;
  r.name = task.data;
  r.data_fingerprint = task.fingerprint;
  r.known = task.class_names;
  r.outliers = task.outlier_names;
  r.unknown = task.unknown_names;
  r.outliers_are_classes = task.outliers_are_classes;
  r.classes = class_counts(task);
  r.train_samples = task.train.size();
  r.outlier_samples = task.train_outliers.size();
  r.config = to_toml(options);
  return r;
}

}  // namespace ood
