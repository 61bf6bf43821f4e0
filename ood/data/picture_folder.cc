#include "ood/data/picture_folder.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sorted_entries(const fs::path& folder, bool folders) {
  std::vector<fs::path> out;
  for (const auto& e : fs::directory_iterator(folder)) {
    if (e.path().filename().string().rfind(".", 0) == 0) continue;
    if (folders ? e.is_directory() : (e.is_regular_file() && is_picture_name(e.path())))
      out.push_back(e.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

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
        auto picture = read_picture(list.paths[at]);
        if (options.image_size > 0)
          picture = resized(picture.unsqueeze(0), options.image_size, options.image_size)[0];
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
                    (failed.size() > 3 ? ", ..." : ""));
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

fs::path first_existing(const fs::path& folder, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (fs::is_directory(folder / name)) return folder / name;
  return {};
}

}  // namespace

std::vector<fs::path> pictures_below(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file() && is_picture_name(e.path())) out.push_back(e.path());
  std::sort(out.begin(), out.end());
  return out;
}

bool has_pictures(const fs::path& folder) {
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file() && is_picture_name(e.path())) return true;
  return false;
}

Samples load_pictures(const fs::path& folder, const PictureOptions& options) {
  return decode({pictures_below(folder), {}}, folder, options);
}

Dataset load_picture_folder(const fs::path& folder, const PictureOptions& options) {
  const fs::path train = first_existing(folder, {"train", "training"});
  const fs::path test = first_existing(folder, {"test", "val", "valid", "validation"});
  if (!train.empty() && test.empty())
    throw DataError(folder.string() +
                    ": has train/ but no test/ or val/; expected both or neither");
  const bool divided = !train.empty();
  std::map<std::string, std::int64_t> number;  // sorted by name
  for (const auto& part :
       divided ? std::vector<fs::path>{train, test} : std::vector<fs::path>{folder})
    for (const auto& c : sorted_entries(part, true)) number.emplace(c.filename().string(), 0);
  Dataset d;
  for (auto& [name, index] : number) {
    index = static_cast<std::int64_t>(d.class_names.size());
    d.class_names.push_back(name);
  }
  if (number.empty())
    throw DataError(folder.string() + ": expected a sub-folder of pictures for each class");
  Listed of_train, of_test;
  const auto add = [&](const fs::path& part, bool to_train, bool to_test) {
    for (const auto& c : sorted_entries(part, true)) {
      const auto files = pictures_below(c);
      if (files.empty()) throw DataError(c.string() + ": a class folder without pictures");
      for (std::size_t i = 0; i < files.size(); ++i) {
        const bool test_here =
            to_test && (!to_train || static_cast<std::int64_t>(i) % kTestShare == kTestShare - 1);
        Listed& list = test_here ? of_test : of_train;
        list.paths.push_back(files[i]);
        list.labels.push_back(number.at(c.filename().string()));
      }
    }
  };
  if (divided) {
    add(train, true, false);
    add(test, false, true);
  } else {
    add(folder, true, true);
  }
  if (of_test.paths.empty())
    throw DataError(
        folder.string() + ": expected at least " + std::to_string(kTestShare) +
        " pictures in a class, so that one can be test data, or folders train/ and test/");
  d.train = decode(of_train, divided ? train : folder, options);
  d.test = decode(of_test, divided ? test : folder, options);
  const auto channels = std::max(d.train.inputs.size(1), d.test.inputs.size(1));
  d.train.inputs = with_channels(d.train.inputs, channels);
  d.test.inputs = with_channels(d.test.inputs, channels);
  return d;
}

}  // namespace ood
