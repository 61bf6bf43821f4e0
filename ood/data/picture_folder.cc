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

const std::vector<std::string> kTrain = {"train", "training"};
const std::vector<std::string> kValidation = {"val", "valid", "validation"};
const std::vector<std::string> kTest = {"test", "testing"};

bool is_one_of(const std::string& name, const std::vector<std::string>& names) {
  return std::find(names.begin(), names.end(), lower(name)) != names.end();
}

// The first sub-folder with one of these names, in whatever case.
fs::path part_of(const std::vector<fs::path>& folders, const std::vector<std::string>& names) {
  const auto it = std::find_if(folders.begin(), folders.end(), [&](const fs::path& f) {
    return is_one_of(f.filename().string(), names);
  });
  return it == folders.end() ? fs::path() : *it;
}

}  // namespace

Samples load_pictures(const fs::path& folder, const PictureOptions& options) {
  const auto files = pictures_below(folder);
  check_picture_files(files, folder, options.strict);
  return load_picture_list({files.files, {}}, folder, options);
}

Dataset load_picture_folder(const fs::path& folder, const PictureOptions& options) {
  const auto parts = folders_in(folder);
  const fs::path train = part_of(parts, kTrain);
  const fs::path validation = part_of(parts, kValidation);
  fs::path test = part_of(parts, kTest);
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
  std::set<std::string> names;
  for (const auto& part :
       divided ? std::vector<fs::path>{train, test} : std::vector<fs::path>{folder})
    for (const auto& c : folders_in(part)) names.insert(c.filename().string());
  PictureParts found;
  const auto number = found.number(names);
  if (number.empty())
    throw DataError(folder.string() + ": expected a sub-folder of pictures for each class");
  PictureFiles all;
  // A share of each class goes to `apart`, where that is given.
  const auto add = [&](const fs::path& part, PictureList& to, PictureList* apart) {
    for (const auto& c : folders_in(part)) {
      const auto label = number.find(c.filename().string());
      if (label == number.end())
        throw DataError(c.string() + ": a class that " + train.string() + " does not have");
      auto files = pictures_below(c);
      if (files.files.empty() && files.unreadable.empty())
        throw DataError(c.string() + ": a class folder without pictures");
      for (std::size_t i = 0; i < files.files.size(); ++i) {
        PictureList& list =
            apart != nullptr && is_test_share(static_cast<std::int64_t>(i)) ? *apart : to;
        list.files.push_back(files.files[i]);
        list.labels.push_back(label->second);
      }
      all.add(std::move(files));
    }
  };
  if (has_validation)
    listener().tell("note: " + folder.string() + ": " + validation.filename().string() +
                    "/ is held out; `validation` plays no part");
  if (divided) {
    add(train, found.train, nullptr);
    add(test, found.test, nullptr);
    if (has_validation) add(validation, found.validation, nullptr);
  } else {
    add(folder, found.train, &found.test);
    listener().tell("note: " + folder.string() + ": has no folder test/; every " +
                    std::to_string(kTestShare) +
                    "th picture of a class by name is test data. Where neighbours are nearly the "
                    "same picture, divide it into train/ and test/ yourself");
  }
  check_picture_files(all, folder, options.strict);
  if (found.test.files.empty())
    throw DataError(
        folder.string() + ": expected at least " + std::to_string(kTestShare) +
        " pictures in a class, so that one can be test data, or folders train/ and test/");
  return load_parts(std::move(found), folder, options);
}

std::map<std::string, std::int64_t> PictureParts::number(const std::set<std::string>& names) {
  std::map<std::string, std::int64_t> numbers;
  for (const auto& name : names) {
    numbers.emplace(name, static_cast<std::int64_t>(class_names.size()));
    class_names.push_back(name);
  }
  return numbers;
}

PictureParts divided(std::vector<LabelledPicture> pictures) {
  std::set<std::string> names;
  for (const auto& p : pictures) names.insert(p.label);
  PictureParts parts;
  const auto number = parts.number(names);
  const bool any = std::any_of(pictures.begin(), pictures.end(),
                               [](const LabelledPicture& p) { return !p.part.empty(); });
  std::map<std::int64_t, std::int64_t> seen;
  for (auto& p : pictures) {
    const auto label = number.at(p.label);
    PictureList* list = parts.named(p.part);
    if (!any) list = is_test_share(seen[label]++) ? &parts.test : &parts.train;
    if (list == nullptr)
      throw DataError(p.file.path.string() +
                      ": expected a part train, val or test, as others have, got \"" + p.part +
                      "\"");
    list->files.push_back(std::move(p.file));
    list->labels.push_back(label);
  }
  return parts;
}

bool is_part_name(const std::string& name) { return PictureParts().named(name) != nullptr; }

PictureList* PictureParts::named(const std::string& name) {
  if (is_one_of(name, kTrain)) return &train;
  if (is_one_of(name, kValidation)) return &validation;
  return is_one_of(name, kTest) ? &test : nullptr;
}

Dataset load_parts(PictureParts parts, const fs::path& from, const PictureOptions& options) {
  if (parts.test.files.empty() && !parts.validation.files.empty()) {
    listener().tell("note: " + from.string() + ": val is the test data, as there is no other");
    std::swap(parts.test, parts.validation);
  }
  if (parts.train.files.empty() || parts.test.files.empty())
    throw DataError(from.string() + ": expected training and test pictures, got none");
  Dataset d;
  d.class_names = std::move(parts.class_names);
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
