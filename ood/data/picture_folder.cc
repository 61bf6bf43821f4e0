#include "ood/data/picture_folder.h"

#include <algorithm>
#include <map>
#include <set>

#include "ood/data/parts.h"
#include "ood/data/picture_inputs.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace fs = std::filesystem;

std::vector<LabelledPicture> labelled_folder(const fs::path& folder, PictureFiles& found) {
  const auto inside = folders_in(folder);
  std::vector<std::pair<fs::path, std::string>> parts;  // and what they are
  for (const char* name : {"train", "test", "val"}) {
    const auto part = std::find_if(inside.begin(), inside.end(), [&](const fs::path& f) {
      return part_named(f.filename().string()) == name;
    });
    if (part != inside.end()) parts.emplace_back(*part, name);
  }
  if (parts.empty() || parts.front().second != "train") parts = {{folder, ""}};
  const auto& [train, name_of_train] = parts.front();
  if (parts.size() == 1 && !name_of_train.empty())
    throw DataError(folder.string() + ": has " + train.filename().string() +
                    "/ but no test/ or val/; expected both or neither");
  std::vector<LabelledPicture> pictures;
  std::set<std::string> classes;
  for (std::size_t i = 0; i < parts.size(); ++i)
    for (const auto& c : folders_in(parts[i].first)) {
      const std::string label = c.filename().string();
      // What is held out beside test data is of classes that are trained or tested.
      if (i < 2)
        classes.insert(label);
      else if (classes.count(label) == 0)
        throw DataError(c.string() + ": a class that " + train.string() + " does not have");
      auto files = pictures_below(c);
      if (files.files.empty() && files.unreadable.empty())
        throw DataError(c.string() + ": a class folder without pictures");
      for (const auto& file : files.files) pictures.push_back({file, label, parts[i].second});
      found.add(std::move(files));
    }
  if (classes.empty())
    throw DataError(folder.string() + ": expected a sub-folder of pictures for each class");
  return pictures;
}

Dataset load_picture_folder(const fs::path& folder, const PictureOptions& options) {
  PictureFiles found;
  auto pictures = labelled_folder(folder, found);
  check_picture_files(found, folder, options.strict);
  return load_labelled(std::move(pictures), folder, options);
}

namespace {

struct PictureParts {
  std::vector<std::string> class_names;
  PictureList train, test, validation;

  /// nullptr where no part has that name.
  PictureList* named(const std::string& name) {
    const auto part = part_named(name);
    return part == "train"  ? &train
           : part == "val"  ? &validation
           : part == "test" ? &test
                            : nullptr;
  }
};

// In their order: where none has a part, every fifth of a class is test data.
PictureParts divided(std::vector<LabelledPicture> pictures, const std::string& from) {
  PictureParts parts;
  std::set<std::string> classes;
  for (const auto& p : pictures) classes.insert(p.label);
  auto& names = parts.class_names;
  names.assign(classes.begin(), classes.end());
  const bool any = std::any_of(pictures.begin(), pictures.end(),
                               [](const LabelledPicture& p) { return !p.part.empty(); });
  std::map<std::int64_t, std::int64_t> seen;
  for (auto& p : pictures) {
    const auto label = std::lower_bound(names.begin(), names.end(), p.label) - names.begin();
    PictureList* list = parts.named(p.part);
    if (!any) list = is_test_share(seen[label]++) ? &parts.test : &parts.train;
    if (list == nullptr)
      throw DataError(p.file.path.string() +
                      ": expected a part train, val or test, as others have, got \"" + p.part +
                      "\"");
    list->files.push_back(std::move(p.file));
    list->labels.push_back(label);
  }
  if (!any && parts.test.files.empty())
    throw DataError(from + ": expected at least " + std::to_string(kTestShare) +
                    " pictures in a class, so that one can be test data, or parts train and test");
  if (!any) tell_of_test_share(from);
  if (any && parts.test.files.empty() && !parts.validation.files.empty()) {
    tell_val_is_test(from);
    std::swap(parts.test, parts.validation);
  }
  return parts;
}

}  // namespace

Dataset load_labelled(std::vector<LabelledPicture> pictures, const fs::path& from,
                      const PictureOptions& options) {
  const auto parts = divided(std::move(pictures), from.string());
  if (parts.train.files.empty() || parts.test.files.empty())
    throw DataError(from.string() + ": expected training and test pictures, got none");
  Dataset d;
  d.class_names = parts.class_names;
  d.train = load_picture_list(parts.train, from, options);
  const auto once = options.unindexed();
  d.test = load_picture_list(parts.test, from, once);
  if (!parts.validation.files.empty())
    d.validation = load_picture_list(parts.validation, from, once);
  std::int64_t channels = 1;
  for (const Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) channels = std::max(channels, s->inputs.channels());
  for (Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) s->inputs = s->inputs.with_channels(channels);
  return d;
}

}  // namespace ood
