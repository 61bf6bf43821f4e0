#include "ood/train/run_data.h"

#include "ood/errors.h"
#include "ood/models/network_file.h"

namespace ood {

TaskOptions task_options(const RunOptions& o) {
  TaskOptions t;
  t.data = o.data;
  t.known = o.known;
  t.outliers = o.outliers;
  t.unknown = o.unknown;
  for (const auto& item : o.ood_data) {
    const auto equals = item.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == item.size())
      throw UsageError("`ood-data`: expected NAME=PATH, got \"" + item + "\"");
    t.ood_data.emplace_back(item.substr(0, equals), item.substr(equals + 1));
  }
  t.validation = o.validation;
  t.limit_train = o.limit_train;
  t.limit_test = o.limit_test;
  t.seed = static_cast<std::uint64_t>(division_seed(o));
  std::int64_t channels = 0;  // that its network is made for, if it says so
  if (is_network_file(o.model)) {
    const auto constants = notes_of(open_network_file(o.model));
    if (o.normalise != "auto" && !constants.mean.empty())
      throw UsageError("`normalise`: expected none with " + o.model +
                       ", which says it itself, got " + o.normalise);
    t.mean = constants.mean;
    t.deviation = constants.deviation;
    channels = constants.channels;
  }
  if (o.normalise == "half") {
    t.mean = t.deviation = std::vector<double>(channels == 1 ? 1 : 3, 0.5);
  } else if (o.normalise == "imagenet" ||
             (o.normalise == "auto" && !o.weights.empty() && o.model.rfind("resnet", 0) == 0)) {
    t.mean = {0.485, 0.456, 0.406};
    t.deviation = {0.229, 0.224, 0.225};
  }
  t.pictures = picture_options(o);
  t.pictures.indexed = true;
  t.synthetic_outliers = o.synthetic_outliers;
  return t;
}

void check_data(const std::filesystem::path& folder, const RunOptions& options, const Task& task,
                const std::string& what) {
  if (!options.data_fingerprint.empty() && options.data_fingerprint != task.fingerprint)
    throw DataError(folder.string() + ": the data in " + options.data + " are not those that " +
                    what + " with");
}

}  // namespace ood
