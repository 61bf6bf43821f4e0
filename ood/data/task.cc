#include "ood/data/task.h"

#include <torch/torch.h>

#include <algorithm>
#include <set>

#include "ood/data/random.h"
#include "ood/errors.h"

namespace ood {
namespace {

// What the divisions of the data are drawn for; the second index of their random numbers.
enum Part : std::uint64_t { kId, kOutlier, kTest, kFirstOod };

std::vector<std::int64_t> positions_of(const Samples& s, const std::vector<std::int64_t>& classes) {
  const std::set<std::int64_t> wanted(classes.begin(), classes.end());
  std::vector<std::int64_t> positions;
  const auto* labels = s.labels.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < s.size(); ++i)
    if (wanted.count(labels[i]) > 0) positions.push_back(i);
  return positions;
}

Samples subset(const Samples& s, const std::vector<std::int64_t>& positions,
               const std::vector<std::int64_t>& known) {
  Samples out = s.select(positions);
  auto* labels = out.labels.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const auto it = std::find(known.begin(), known.end(), labels[i]);
    labels[i] = it == known.end() ? -1 : it - known.begin();
  }
  return out;
}

// A random choice of at most `limit` positions, in ascending order; 0: all.
std::vector<std::int64_t> limited(std::vector<std::int64_t> positions, std::int64_t limit,
                                  std::uint64_t seed, Part part) {
  const auto n = static_cast<std::int64_t>(positions.size());
  if (limit <= 0 || n <= limit) return positions;
  const auto order = permutation(n, seed, Purpose::kSplit, 16 + part);
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < limit; ++i)
    chosen.push_back(positions[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

struct Halves {
  std::vector<std::int64_t> train, validation;
};
Halves held_out(const std::vector<std::int64_t>& positions, double share, std::uint64_t seed,
                Part part) {
  const auto n = static_cast<std::int64_t>(positions.size());
  const auto order = permutation(n, seed, Purpose::kSplit, part);
  auto wanted = static_cast<std::int64_t>(share * static_cast<double>(n) + 0.5);
  if (share > 0 && n > 1) wanted = std::clamp<std::int64_t>(wanted, 1, n - 1);
  Halves h;
  for (std::int64_t i = 0; i < n; ++i)
    (i < wanted ? h.validation : h.train)
        .push_back(positions[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]);
  std::sort(h.train.begin(), h.train.end());
  std::sort(h.validation.begin(), h.validation.end());
  return h;
}

void check_lists(const TaskOptions& o, const Dataset& d, const std::vector<std::int64_t>& known) {
  std::vector<std::pair<const char*, const std::vector<std::int64_t>*>> lists = {
      {"--known", &known}, {"--outliers", &o.outliers}, {"--unknown", &o.unknown}};
  std::map<std::int64_t, const char*> seen;
  for (const auto& [flag, list] : lists)
    for (const std::int64_t c : *list) {
      if (c < 0 || c >= d.classes())
        throw UsageError(std::string(flag) + ": expected classes 0 to " +
                         std::to_string(d.classes() - 1) + " of " + d.name + ", got " +
                         std::to_string(c));
      const auto [it, fresh] = seen.emplace(c, flag);
      if (!fresh)
        throw UsageError("class " + std::to_string(c) + " is in " + it->second + " and in " + flag +
                         "; expected each class in one list");
    }
  if (known.size() < 2)
    throw UsageError("--known: expected at least two classes to learn, got " +
                     std::to_string(known.size()));
  if (o.unknown.empty() && o.ood_data.empty())
    throw UsageError(
        "no OOD samples to test on: expected --unknown CLASSES or --ood-data NAME=PATH");
}

std::vector<std::string> names_of(const Dataset& d, const std::vector<std::int64_t>& classes) {
  std::vector<std::string> names;
  for (const auto c : classes) names.push_back(d.class_names[static_cast<std::size_t>(c)]);
  return names;
}

void check_inputs_fit(const Samples& s, const Samples& reference, const std::string& name) {
  if (s.size() == 0) throw DataError(name + ": expected pictures, got none");
  if (s.inputs.sizes().slice(1) == reference.inputs.sizes().slice(1)) return;
  const auto text = [](const at::Tensor& t) {
    return std::to_string(t.size(1)) + "x" + std::to_string(t.size(2)) + "x" +
           std::to_string(t.size(3));
  };
  throw DataError(name + ": expected pictures of " + text(reference.inputs) +
                  " like the training data, got " + text(s.inputs));
}

}  // namespace

Task make_task(const TaskOptions& o) {
  const Dataset d = load_dataset(o.data);
  std::vector<std::int64_t> known = o.known;
  if (known.empty())
    for (std::int64_t c = 0; c < d.classes(); ++c)
      if (std::count(o.outliers.begin(), o.outliers.end(), c) == 0 &&
          std::count(o.unknown.begin(), o.unknown.end(), c) == 0)
        known.push_back(c);
  check_lists(o, d, known);

  Task t;
  t.data = d.name;
  t.class_names = names_of(d, known);
  t.outlier_names = names_of(d, o.outliers);
  t.unknown_names = names_of(d, o.unknown);
  const auto divide = [&](const std::vector<std::int64_t>& classes, Part part, Samples& train,
                          Samples& validation) {
    const auto halves = held_out(positions_of(d.train, classes), o.validation, o.seed, part);
    train = subset(d.train, limited(halves.train, o.limit_train, o.seed, part), known);
    validation = subset(d.train, limited(halves.validation, o.limit_train, o.seed, part), known);
  };
  divide(known, kId, t.train, t.validation);
  divide(o.outliers, kOutlier, t.train_outliers, t.validation_outliers);
  for (std::size_t c = 0; c < known.size(); ++c)
    if (positions_of(d.train, {known[c]}).empty())
      throw DataError(d.name + ": class " + t.class_names[c] + " has no training pictures");

  t.test = subset(d.test, limited(positions_of(d.test, known), o.limit_test, o.seed, kTest), known);
  check_inputs_fit(t.test, d.train, d.name + ", test pictures of the known classes");
  std::uint64_t part = kFirstOod;
  if (!o.unknown.empty())
    t.ood.emplace_back("unknown", subset(d.test,
                                         limited(positions_of(d.test, o.unknown), o.limit_test,
                                                 o.seed, static_cast<Part>(part++)),
                                         known));
  for (const auto& [name, path] : o.ood_data) {
    for (const auto& other : t.ood)
      if (other.first == name) throw UsageError("--ood-data: the name " + name + " is given twice");
    Samples s = load_inputs(path);
    std::vector<std::int64_t> all(static_cast<std::size_t>(s.size()));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
    s = s.select(limited(all, o.limit_test, o.seed, static_cast<Part>(part++)));
    check_inputs_fit(s, d.train, path);
    s.labels = torch::full({s.size()}, -1, torch::kLong);
    t.ood.emplace_back(name, std::move(s));
  }
  for (const auto& [name, s] : t.ood) check_inputs_fit(s, d.train, "OOD test set " + name);

  const auto scaled = t.train.inputs.to(torch::kDouble) / 255.0;
  const auto mean = scaled.mean({0, 2, 3}), deviation = scaled.std({0, 2, 3}, false);
  for (std::int64_t c = 0; c < mean.size(0); ++c) {
    t.mean.push_back(mean[c].item<double>());
    t.deviation.push_back(std::max(deviation[c].item<double>(), 1e-3));
  }
  return t;
}

at::Tensor normalised(const Task& task, const at::Tensor& inputs) {
  const auto shape =
      std::vector<std::int64_t>{1, static_cast<std::int64_t>(task.mean.size()), 1, 1};
  const auto mean = torch::tensor(task.mean, torch::kDouble).to(torch::kFloat).view(shape);
  const auto deviation =
      torch::tensor(task.deviation, torch::kDouble).to(torch::kFloat).view(shape);
  return inputs.to(torch::kFloat)
      .div_(255)
      .sub_(mean)
      .div_(deviation)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

std::vector<std::int64_t> parse_classes(const std::string& flag, const std::string& text) {
  std::vector<std::int64_t> classes;
  std::stringstream stream(text);
  std::string item;
  const auto number = [&](const std::string& s) {
    if (s.empty() || s.find_first_not_of("0123456789") != std::string::npos || s.size() > 9)
      throw UsageError(flag + ": expected class numbers such as 0,1,4 or 0-3, got \"" + text +
                       "\"");
    return static_cast<std::int64_t>(std::stol(s));
  };
  while (std::getline(stream, item, ',')) {
    const auto dash = item.find('-');
    const auto first = number(item.substr(0, dash));
    const auto last = dash == std::string::npos ? first : number(item.substr(dash + 1));
    for (auto c = first; c <= last; ++c) classes.push_back(c);
  }
  return classes;
}

}  // namespace ood
