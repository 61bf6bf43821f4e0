#include "ood/data/picture_folder.h"

#include <algorithm>
#include <map>

#include "ood/data/picture_files.h"
#include "ood/data/picture_inputs.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

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
  return load_picture_list({files.paths, {}}, folder, options);
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
  PictureList of_train, of_validation, of_test;
  PictureFiles all;
  // A share of each class goes to `apart`, where that is given.
  const auto add = [&](const fs::path& part, PictureList& to, PictureList* apart) {
    for (const auto& c : folders_in(part)) {
      const auto label = number.find(c.filename().string());
      if (label == number.end())
        throw DataError(c.string() + ": a class that " + train.string() + " does not have");
      auto files = pictures_below(c);
      if (files.paths.empty() && files.unreadable.empty())
        throw DataError(c.string() + ": a class folder without pictures");
      for (std::size_t i = 0; i < files.paths.size(); ++i) {
        PictureList& list = apart != nullptr && i % kTestShare == kTestShare - 1 ? *apart : to;
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
  d.train = load_picture_list(of_train, divided ? train : folder, options);
  d.test = load_picture_list(of_test, divided ? test : folder, options);
  if (has_validation) d.validation = load_picture_list(of_validation, validation, options);
  std::int64_t channels = 1;
  for (const Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) channels = std::max(channels, s->inputs.channels());
  for (Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) s->inputs = s->inputs.with_channels(channels);
  return d;
}

}  // namespace ood
