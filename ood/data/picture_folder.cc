#include "ood/data/picture_folder.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "ood/data/picture.h"
#include "ood/data/picture_files.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

struct Listed {
  std::vector<fs::path> paths;
  std::vector<std::int64_t> labels;  // empty: none
};

std::string shape_text(const at::Tensor& t) {
  return std::to_string(t.size(2)) + "x" + std::to_string(t.size(1));
}

// Decodes all; what does not decode is left out and named.
Samples decode(const Listed& list, const fs::path& folder, const PictureOptions& options) {
  const auto n = static_cast<std::int64_t>(list.paths.size());
  std::vector<at::Tensor> pictures(list.paths.size());
  std::map<std::int64_t, std::string> failed;
  std::mutex mutex;
  at::parallel_for(0, n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      try {
        auto picture = read_picture(list.paths[at], options.max_pixels);
        if (options.image_size > 0)
          picture = brought_to(picture.unsqueeze(0), options.image_size, options.image_size,
                               options.crop)[0];
        pictures[at] = picture;
      } catch (const DataError& e) {
        const std::scoped_lock lock(mutex);
        failed[i] = e.what();
      }
    }
  });
  if (!failed.empty() && options.strict)
    throw DataError(failed.begin()->second + " (`strict` refuses it)");
  if (!failed.empty()) {
    std::string names;
    int shown = 0;
    for (const auto& [i, reason] : failed)
      if (shown++ < 3)
        names += (names.empty() ? "" : ", ") + list.paths[static_cast<std::size_t>(i)].string();
    listener().warn(folder.string() + ": " + std::to_string(failed.size()) + " of " +
                    std::to_string(n) + " pictures do not decode and are left out: " + names +
                    (failed.size() > 3 ? ", ..." : "") + "; the first: " + failed.begin()->second);
  }
  std::int64_t channels = 1;
  std::vector<at::Tensor> good;
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    if (!pictures[i].defined()) continue;
    if (!good.empty() && pictures[i].sizes().slice(1) != good.front().sizes().slice(1))
      throw DataError(list.paths[i].string() + ": is " + shape_text(pictures[i]) + ", others are " +
                      shape_text(good.front()) +
                      "; expected pictures of one size; set `image-size` N");
    channels = std::max(channels, pictures[i].size(0));
    good.push_back(pictures[i]);
    if (!list.labels.empty()) labels.push_back(list.labels[i]);
  }
  if (good.empty()) throw DataError(folder.string() + ": expected pictures, got none that decode");
  for (auto& p : good) p = with_channels(p.unsqueeze(0), channels);
  Samples s{torch::cat(good), {}};
  if (!list.labels.empty()) s.labels = torch::tensor(labels, torch::kLong);
  return s;
}

// The sub-folder with one of these names, in whatever case.
fs::path part_of(const std::vector<fs::path>& folders, std::initializer_list<const char*> names) {
  for (const char* name : names)
    for (const auto& folder : folders)
      if (lower(folder.filename().string()) == name) return folder;
  return {};
}

}  // namespace

Samples load_pictures(const fs::path& folder, const PictureOptions& options) {
  const auto files = pictures_below(folder);
  check_picture_files(files, folder);
  return decode({files.paths, {}}, folder, options);
}

Dataset load_picture_folder(const fs::path& folder, const PictureOptions& options) {
  const auto parts = folders_in(folder);
  const fs::path train = part_of(parts, {"train", "training"});
  const fs::path validation = part_of(parts, {"val", "valid", "validation"});
  fs::path test = part_of(parts, {"test", "testing"});
  const bool divided = !train.empty();
  const bool has_validation = divided && !validation.empty() && !test.empty();
  if (divided && test.empty()) {
    test = validation;
    if (test.empty())
      throw DataError(folder.string() + ": has " + train.filename().string() +
                      "/ but no test/ or val/; expected both or neither");
    listener().tell("note: " + folder.string() + ": " + test.filename().string() +
                    "/ is the test data, as there is no test/; `validation` is held out of " +
                    train.filename().string() + "/");
  }
  std::map<std::string, std::int64_t> number;  // sorted by name
  for (const auto& part :
       divided ? std::vector<fs::path>{train, test} : std::vector<fs::path>{folder})
    for (const auto& c : folders_in(part)) number.emplace(c.filename().string(), 0);
  Dataset d;
  for (auto& [name, index] : number) {
    index = static_cast<std::int64_t>(d.class_names.size());
    d.class_names.push_back(name);
  }
  if (number.empty())
    throw DataError(folder.string() + ": expected a sub-folder of pictures for each class");
  Listed of_train, of_validation, of_test;
  PictureFiles all;
  // A share of each class goes to `apart`, where that is given.
  const auto add = [&](const fs::path& part, Listed& to, Listed* apart) {
    for (const auto& c : folders_in(part)) {
      const auto label = number.find(c.filename().string());
      if (label == number.end())
        throw DataError(c.string() + ": a class that " + train.string() + " does not have");
      auto files = pictures_below(c);
      if (files.paths.empty() && files.unreadable.empty())
        throw DataError(c.string() + ": a class folder without pictures");
      for (std::size_t i = 0; i < files.paths.size(); ++i) {
        Listed& list = apart != nullptr && i % kTestShare == kTestShare - 1 ? *apart : to;
        list.paths.push_back(files.paths[i]);
        list.labels.push_back(label->second);
      }
      all.add(std::move(files));
    }
  };
  if (has_validation)
    listener().tell("note: " + folder.string() + ": " + validation.filename().string() +
                    "/ is held out; `validation` plays no part");
  if (divided) {
    add(train, of_train, nullptr);
    add(test, of_test, nullptr);
    if (has_validation) add(validation, of_validation, nullptr);
  } else {
    add(folder, of_train, &of_test);
    listener().tell("note: " + folder.string() + ": has no folder test/; every " +
                    std::to_string(kTestShare) +
                    "th picture of a class by name is test data. Where neighbours are nearly the "
                    "same picture, divide it into train/ and test/ yourself");
  }
  check_picture_files(all, folder);
  if (of_test.paths.empty())
    throw DataError(
        folder.string() + ": expected at least " + std::to_string(kTestShare) +
        " pictures in a class, so that one can be test data, or folders train/ and test/");
  d.train = decode(of_train, divided ? train : folder, options);
  d.test = decode(of_test, divided ? test : folder, options);
  if (has_validation) d.validation = decode(of_validation, validation, options);
  std::int64_t channels = 1;
  for (const Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) channels = std::max(channels, s->inputs.size(1));
  for (Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) s->inputs = with_channels(s->inputs, channels);
  return d;
}

}  // namespace ood
