#include "ood/data/task.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <set>

#include "ood/data/class_list.h"
#include "ood/data/content.h"
#include "ood/data/files.h"
#include "ood/data/numbers.h"
#include "ood/data/picture.h"
#include "ood/data/random.h"
#include "ood/data/synthetic_outliers.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"

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
  wanted = std::clamp<std::int64_t>(wanted, share > 0 && n > 1, std::max<std::int64_t>(n - 1, 0));
  Halves h;
  for (std::int64_t i = 0; i < n; ++i)
    (i < wanted ? h.validation : h.train)
        .push_back(positions[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]);
  std::sort(h.train.begin(), h.train.end());
  std::sort(h.validation.begin(), h.validation.end());
  return h;
}

struct ClassLists {
  std::vector<std::int64_t> known, outliers, unknown;
};

void check_lists(const TaskOptions& task, const Dataset& d, const ClassLists& o) {
  const auto& known = o.known;
  std::vector<std::pair<const char*, const std::vector<std::int64_t>*>> lists = {
      {"`known`", &known}, {"`outliers`", &o.outliers}, {"`unknown`", &o.unknown}};
  std::map<std::int64_t, const char*> seen;
  for (const auto& [flag, list] : lists)
    for (const std::int64_t c : *list) {
      const auto [it, fresh] = seen.emplace(c, flag);
      if (fresh) continue;
      const std::string name = "class " + d.class_names[static_cast<std::size_t>(c)];
      throw UsageError(it->second == std::string(flag)
                           ? std::string(flag) + ": " + name + " is given twice; expected it once"
                           : name + " is in " + it->second + " and in " + flag +
                                 "; expected each class in one list");
    }
  if (known.empty()) throw UsageError("`known`: expected classes to learn, all are in other lists");
  if (o.unknown.empty() && task.ood_data.empty())
    listener().warn(
        "no OOD samples to test on, so nothing says how well they are detected; set `unknown` "
        "CLASSES or `ood-data` NAME=PATH");
}

std::vector<std::string> names_of(const Dataset& d, const std::vector<std::int64_t>& classes) {
  std::vector<std::string> names;
  for (const auto c : classes) names.push_back(d.class_names[static_cast<std::size_t>(c)]);
  return names;
}

// Further samples in the form of the training data, pictures at its size; DataError where that
// cannot be.
Inputs load_like(const Inputs& reference, const std::string& path, const PictureOptions& options) {
  PictureOptions reading = options;
  if (!reference.embeddings() && !options.size.given()) {
    reading.size = {reference.height(), reference.width(), options.size.crop};
    reading.as_training = true;
  }
  Inputs x = load_inputs(path, reading);
  if (x.size() == 0) throw DataError(path + ": expected samples, got none");
  if (!reference.embeddings() && !x.embeddings()) x = x.with_channels(reference.channels());
  if (reference.embeddings() == x.embeddings() && reference.shape() == x.shape()) return x;
  throw DataError(path + ": expected " + input_kind(reference.embeddings(), reference.channels()) +
                  " like the training data, got " + input_kind(x.embeddings(), x.channels()));
}

// Of embeddings, a few rows at a time.
void measure_embeddings(Task& t) {
  const auto& x = t.train.inputs;
  const auto over_rows = [&](const auto& of) {
    auto sum = torch::zeros({x.channels()}, torch::kDouble);
    constexpr std::int64_t kRows = 256;
    for (std::int64_t i = 0; i < x.size(); i += kRows)
      sum += of(x.slice(i, std::min(i + kRows, x.size())).flatten(1).to(torch::kDouble)).sum(0);
    return sum / static_cast<double>(x.size());
  };
  const auto mean = over_rows([](const at::Tensor& rows) { return rows; });
  const auto variance = over_rows([&](const at::Tensor& rows) { return (rows - mean).square(); });
  for (std::int64_t c = 0; c < mean.size(0); ++c) {
    t.mean.push_back(mean[c].item<double>());
    t.deviation.push_back(std::sqrt(variance[c].item<double>()));
  }
}

// Of pictures as 0..1, by channel, from whole numbers: with s and q the sums of all n values and of
// their squares, the mean is s / n and the variance (n q - s^2) / n^2.
void measure_pictures(Task& t) {
  const auto& x = t.train.inputs;
  constexpr long double kWhite = 255;
  PixelSums all;
  std::mutex mutex;
  at::parallel_for(0, x.size(), 64, [&](std::int64_t begin, std::int64_t end) {
    PixelSums part;
    for (auto i = begin; i < end; ++i) part.add(x.sums(i));
    const std::scoped_lock lock(mutex);
    all.add(part);
  });
  const auto n = static_cast<unsigned __int128>(x.size() * x.height() * x.width());
  for (std::size_t c = 0; c < all.sum.size(); ++c) {
    const unsigned __int128 s = all.sum[c], q = all.squares[c];
    const auto count = static_cast<long double>(n);
    t.mean.push_back(static_cast<double>(static_cast<long double>(s) / count / kWhite));
    t.deviation.push_back(
        static_cast<double>(std::sqrt(static_cast<long double>(n * q - s * s)) / count / kWhite));
  }
}

void measure(Task& t) {
  constexpr double kLeast = 1e-3;
  if (t.embeddings)
    measure_embeddings(t);
  else
    measure_pictures(t);
  for (double& d : t.deviation) d = std::max(d, kLeast);
}

// By given constants, pictures with as many channels as those.
void normalise_by(const TaskOptions& o, Task& t) {
  const auto channels = static_cast<std::size_t>(t.train.inputs.channels());
  if (o.mean.size() != channels || o.deviation.size() != channels)
    throw DataError(t.data + ": expected " + std::to_string(o.mean.size()) +
                    (t.embeddings ? " numbers a row" : " channels") +
                    ", as the network has constants for, got " + std::to_string(channels));
  t.mean = o.mean;
  t.deviation = o.deviation;
}

// Classes stand above a path of the same name.
bool is_path(const std::string& text, const std::vector<std::string>& class_names) {
  if (text.empty() || class_list(text, class_names).error.empty()) return false;
  return text == "fashion-mnist" || text.find('/') != std::string::npos ||
         std::filesystem::exists(text);
}

}  // namespace

Inputs channels_for(const Inputs& pictures, const std::vector<double>& mean,
                    const std::string& name) {
  const auto wanted = static_cast<std::int64_t>(mean.size()), has = pictures.channels();
  if (wanted != has && !(std::min(wanted, has) == 1 && std::max(wanted, has) == 3))
    throw DataError(name + ": expected pictures of " + std::to_string(wanted) +
                    " channels, as the network has constants for, got " + std::to_string(has));
  return pictures.with_channels(wanted);
}

Task make_task(const TaskOptions& o) {
  check_name("`data`", o.data);
  check_name("`outliers`", o.outliers);
  for (const auto& [name, path] : o.ood_data) check_name("`ood-data`", name + "=" + path);
  Dataset d = load_dataset(o.data, o.pictures);
  if (d.validation.inputs.defined())
    listener().tell("note: " + o.data + ": val is held out; `validation` plays no part");
  for (const auto& name : d.class_names) check_name(o.data + ": class", name);
  // Grey pictures for a network of coloured ones.
  if (!o.mean.empty())
    for (Samples* s : {&d.train, &d.test, &d.validation})
      if (s->inputs.defined() && !s->inputs.embeddings())
        s->inputs = channels_for(s->inputs, o.mean, d.name);
  d.train = in_order_of_content(d.train);
  ClassLists lists;
  const bool outlier_path = is_path(o.outliers, d.class_names);
  lists.known = parse_classes("`known`", o.known, d.class_names);
  if (!outlier_path) lists.outliers = parse_classes("`outliers`", o.outliers, d.class_names);
  lists.unknown = parse_classes("`unknown`", o.unknown, d.class_names);
  auto& known = lists.known;
  if (known.empty())
    for (std::int64_t c = 0; c < d.classes(); ++c)
      if (std::count(lists.outliers.begin(), lists.outliers.end(), c) == 0 &&
          std::count(lists.unknown.begin(), lists.unknown.end(), c) == 0)
        known.push_back(c);
  check_lists(o, d, lists);

  Task t;
  t.data = d.name;
  t.embeddings = d.train.inputs.embeddings();
  t.class_names = names_of(d, known);
  t.outlier_names = names_of(d, lists.outliers);
  t.outliers_are_classes = !lists.outliers.empty();
  t.unknown_names = names_of(d, lists.unknown);
  const auto divide = [&](const Samples& from, const std::vector<std::int64_t>& positions,
                          Part part, Samples& train, Samples& validation) {
    const auto halves = held_out(positions, o.validation, o.seed, part);
    train = subset(from, limited(halves.train, o.limit_train, o.seed, part), known);
    validation = subset(from, limited(halves.validation, o.limit_train, o.seed, part), known);
  };
  const auto divide_classes = [&](const std::vector<std::int64_t>& classes, Part part,
                                  Samples& train, Samples& validation) {
    const auto positions = positions_of(d.train, classes);
    if (!d.validation.inputs.defined()) return divide(d.train, positions, part, train, validation);
    if (part == kId && positions_of(d.validation, classes).empty())
      throw DataError(d.name + ": val has no samples of the known classes");
    train = subset(d.train, limited(positions, o.limit_train, o.seed, part), known);
    validation =
        subset(d.validation,
               limited(positions_of(d.validation, classes), o.limit_train, o.seed, part), known);
  };
  const auto without_labels = [](const Inputs& x) {
    return Samples{x, torch::full({x.size()}, -1, torch::kLong)};
  };
  divide_classes(known, kId, t.train, t.validation);
  if (outlier_path) {
    const Samples outliers = without_labels(load_like(d.train.inputs, o.outliers, o.pictures));
    divide(outliers, range(0, outliers.size()), kOutlier, t.train_outliers, t.validation_outliers);
    t.outlier_names = {name_of(o.outliers)};
  } else {
    divide_classes(lists.outliers, kOutlier, t.train_outliers, t.validation_outliers);
  }
  for (std::size_t c = 0; c < known.size(); ++c)
    if (positions_of(d.train, {known[c]}).empty())
      throw DataError(d.name + ": class " + t.class_names[c] + " has no training samples");

  t.test = subset(d.test, limited(positions_of(d.test, known), o.limit_test, o.seed, kTest), known);
  if (t.test.size() == 0)
    throw DataError(d.name + ": expected test samples of the known classes, got none");
  std::uint64_t part = kFirstOod;
  if (!lists.unknown.empty()) {
    t.ood.emplace_back("unknown", subset(d.test,
                                         limited(positions_of(d.test, lists.unknown), o.limit_test,
                                                 o.seed, static_cast<Part>(part++)),
                                         known));
    if (t.ood.back().second.size() == 0)
      throw DataError(d.name + ": expected test samples of the unknown classes, got none");
  }
  for (const auto& [name, path] : o.ood_data) {
    for (const auto& other : t.ood)
      if (other.first == name) throw UsageError("`ood-data`: the name " + name + " is given twice");
    const Inputs x = load_like(d.train.inputs, path, o.pictures.unindexed());
    t.ood.emplace_back(name, without_labels(x.select(limited(range(0, x.size()), o.limit_test,
                                                             o.seed, static_cast<Part>(part++)))));
  }
  if (!o.synthetic_outliers.empty()) {
    Inputs made = make_synthetic_outliers(t.train, o.synthetic_outliers, o.seed);
    if (t.train_outliers.size() > 0) made = t.train_outliers.inputs.followed_by(made);
    t.train_outliers = without_labels(made);
    t.outlier_names.push_back("synthetic " + o.synthetic_outliers);
  }
  if (o.mean.empty())
    measure(t);
  else
    normalise_by(o, t);
  look_at_content(t);
  return t;
}

at::Tensor normalised(const at::Tensor& inputs, const std::vector<double>& mean_of,
                      const std::vector<double>& deviation_of) {
  const auto per_channel = [](const std::vector<double>& v) {
    return torch::tensor(v, torch::kDouble)
        .to(torch::kFloat)
        .view({1, static_cast<std::int64_t>(v.size()), 1, 1});
  };
  const auto mean = per_channel(mean_of);
  const auto x =
      inputs.is_floating_point() ? inputs - mean : inputs.to(torch::kFloat).div_(255).sub_(mean);
  return x.div_(per_channel(deviation_of)).contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace ood
