#include "ood/data/dataset.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <set>

#include "ood/data/arrays.h"
#include "ood/data/cifar.h"
#include "ood/data/files.h"
#include "ood/data/idx.h"
#include "ood/data/manifest.h"
#include "ood/data/parts.h"
#include "ood/data/picture_folder.h"
#include "ood/data/picture_inputs.h"
#include "ood/data/table.h"
#include "ood/data/tar.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFashionFolder = "/usr/share/datasets/fashion-mnist";
const std::vector<std::string> kFashionClasses = {
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"};

std::vector<fs::path> files_in(const fs::path& folder) {
  return entries_of(folder, [](const auto& e) {
    std::error_code unknown;  // of a link that leads nowhere
    return e.is_regular_file(unknown);
  });
}

constexpr std::initializer_list<const char*> kIdxTest = {"t10k-", "test-"};

// train-images-idx3-ubyte, .gz of it, and the same without "idx"; not images.txt or images_1.png.
bool is_idx_name(const fs::path& path, const char* word) {
  const std::string name = path.filename().string(), end = path.extension().string();
  return name.find(word) != std::string::npos &&
         (end.empty() || end.find("idx") != std::string::npos ||
          (end == ".gz" && !is_tar_name(path)));
}

// The first idx file whose name starts with one of the prefixes and contains `word`.
fs::path find_file(const std::vector<fs::path>& files, std::initializer_list<const char*> prefixes,
                   const char* word) {
  for (const auto& f : files) {
    const std::string name = f.filename().string();
    for (const char* p : prefixes)
      if (name.rfind(p, 0) == 0 && is_idx_name(f, word)) return f;
  }
  return {};
}

at::Tensor pictures(const fs::path& path) {
  auto x = read_idx(path);
  if (x.dim() != 3 && x.dim() != 4)
    throw DataError(path.string() + ": expected pictures (3 or 4 dimensions), got " +
                    std::to_string(x.dim()) + " dimensions");
  return x.dim() == 3 ? x.unsqueeze(1) : x;
}

Samples labelled(const fs::path& images, const fs::path& labels) {
  Samples s{pictures(images), read_idx(labels)};
  if (s.labels.dim() != 1)
    throw DataError(labels.string() + ": expected labels (1 dimension), got " +
                    std::to_string(s.labels.dim()) + " dimensions");
  s.labels = s.labels.to(torch::kLong);
  if (s.size() != s.labels.size(0))
    throw DataError(images.string() + " has " + std::to_string(s.size()) + " pictures, " +
                    labels.filename().string() + " has " + std::to_string(s.labels.size(0)) +
                    " labels; expected as many of each");
  return s;
}

fs::path existing_folder(const std::string& what) {
  const auto path = data_path(what);
  if (path == kFashionFolder && !fs::is_directory(path))
    throw DataError("fashion-mnist: not installed; apt-get install dataset-fashion-mnist");
  if (!fs::exists(path)) throw DataError(what + ": no such file or folder");
  return path;
}

enum class Format { kIdx, kCifar, kArrays, kNpz, kClassArrays, kManifest, kTable, kTar, kPictures };

bool is_npz_name(const fs::path& path) { return lower(path.extension().string()) == ".npz"; }

// Whether a file is a whole data set.
bool is_data_file(const fs::path& path) {
  return is_npz_name(path) || is_manifest_name(path) || is_tar_name(path);
}

Format format_of(const fs::path& folder) {
  if (is_npz_name(folder)) return Format::kNpz;
  if (is_table(folder)) return Format::kTable;
  if (is_manifest_name(folder)) return Format::kManifest;
  if (is_tar_name(folder) && !fs::is_directory(folder)) return Format::kTar;
  const auto files = files_in(folder);
  if (!find_file(files, {""}, "images").empty()) return Format::kIdx;
  if (is_cifar_folder(folder)) return Format::kCifar;
  if (is_array_folder(folder)) return Format::kArrays;
  if (has_pictures(folder)) return Format::kPictures;
  if (is_folder_of_class_arrays(folder)) return Format::kClassArrays;
  if (has_tar_files(folder)) return Format::kTar;
  if (const auto unreadable = pictures_below(folder).unreadable; !unreadable.empty())
    throw DataError(unreadable.front() + "; expected folders that can be read");
  throw DataError(
      folder.string() +
      ": expected idx files (train-images*), CIFAR's binary files (data_batch_1.bin), arrays "
      "(train.npy, train_labels.npy), TAR archives or a folder of pictures a class, found none");
}

Dataset load_idx_folder(const fs::path& folder) {
  const auto files = files_in(folder);
  const auto need = [&](std::initializer_list<const char*> prefixes, const char* word) {
    const auto f = find_file(files, prefixes, word);
    if (f.empty())
      throw DataError(folder.string() + ": expected an idx file " + *prefixes.begin() + word +
                      "* in the folder, found none");
    return f;
  };
  Dataset d;
  d.train = labelled(need({"train-"}, "images"), need({"train-"}, "labels"));
  d.test = labelled(need(kIdxTest, "images"), need(kIdxTest, "labels"));
  return d;
}

Dataset load_folder(const fs::path& folder, const PictureOptions& options) {
  switch (format_of(folder)) {
    case Format::kIdx:
      return load_idx_folder(folder);
    case Format::kCifar:
      return load_cifar(folder);
    case Format::kArrays:
      return load_array_folder(folder);
    case Format::kNpz:
      return load_npz(folder);
    case Format::kClassArrays:
      return load_class_arrays(folder);
    case Format::kManifest:
      return load_manifest(folder, options);
    case Format::kTable:
      return load_table(folder);
    case Format::kTar:
      return load_tar(folder, options);
    case Format::kPictures:
      return load_picture_folder(folder, options);
  }
  return {};
}

Inputs sized(const Inputs& inputs, const std::string& name, const PictureOptions& options) {
  const auto& size = options.size;
  if (inputs.embeddings() || !size.given() || inputs.size() == 0) return inputs;
  if (options.as_training) tell_of_size(name, inputs.slice(0, 1)[0], size);
  return inputs.brought_to(size);
}

// The test part, or all where there is none.
Inputs arrays_of(const fs::path& path) {
  if (is_table(path)) return load_table_inputs(path);
  if (!fs::is_directory(path) && !is_npz_name(path))
    return lower(path.extension().string()) == ".npy" ? load_npy_inputs(path)
                                                      : Inputs(pictures(path));
  if (format_of(path) != Format::kIdx)
    return test_data_of(path.string(), load_folder(path, {}).test.inputs);
  const auto files = files_in(path);
  const auto test = find_file(files, kIdxTest, "images");
  return test.empty() ? Inputs(pictures(find_file(files, {""}, "images")))
                      : test_data_of(path.string(), pictures(test));
}

std::vector<LabelledPicture> labelled_pictures(const fs::path& data, Format format) {
  if (format == Format::kTar) return labelled_tar(data);
  if (format == Format::kManifest) return labelled_manifest(data);
  PictureFiles found;
  return labelled_folder(data, found);
}

// Without links.
std::string real_name(const PictureFile& picture) {
  std::error_code none;
  const auto file = fs::weakly_canonical(picture.opened(), none).string();
  if (picture.archive.empty()) return file;
  return file + picture.path.string().substr(picture.archive.string().size());
}

bool learns_pictures(const fs::path& data, Format format, const fs::path& place) {
  const auto pictures = labelled_pictures(data, format);
  const auto is_of = [](const char* part) {
    return [part](const LabelledPicture& p) { return part_named(p.part) == part; };
  };
  // Where there is no other, val is test data, and without parts a share of each class.
  const bool tested = std::any_of(pictures.begin(), pictures.end(), is_of("test"));
  const bool undivided = std::all_of(pictures.begin(), pictures.end(), is_of(""));
  const auto is_test = is_of(tested ? "test" : "val");
  std::map<std::string, std::int64_t> seen;
  std::set<std::string> learned;
  for (const auto& p : pictures)
    if (undivided ? !is_test_share(seen[p.label]++) : !is_test(p))
      learned.insert(real_name(p.file));
  const auto asked = pictures_of(place).files;
  return std::any_of(asked.begin(), asked.end(),
                     [&](const PictureFile& p) { return learned.count(real_name(p)) > 0; });
}

}  // namespace

Samples Samples::select(const std::vector<std::int64_t>& positions) const {
  const auto index = torch::tensor(positions, torch::kLong);
  return {inputs.select(positions),
          labels.defined() ? labels.index_select(0, index) : at::Tensor()};
}

void tell_of_size(const std::string& name, const at::Tensor& picture, const PictureSize& size) {
  const auto text = [](std::int64_t height, std::int64_t width) {
    return std::to_string(width) + "x" + std::to_string(height);
  };
  if (picture.size(1) != size.height || picture.size(2) != size.width)
    listener().tell("note: " + name + ": pictures of " + text(picture.size(1), picture.size(2)) +
                    " are brought to " + text(size.height, size.width) +
                    ", the size of the training");
}

void tell_of_test_share(const std::string& from) {
  listener().tell("note: " + from + ": has no test data; every " + std::to_string(kTestShare) +
                  "th sample of a class is that. Where neighbours are nearly the same, divide it "
                  "into train and test yourself");
}

void tell_val_is_test(const std::string& from) {
  listener().tell("note: " + from + ": val is the test data, as there is no other");
}

Inputs test_data_of(const std::string& from, const Inputs& test) {
  listener().tell("note: " + from + ": is a data set; takes its test data, " +
                  std::to_string(test.size()));
  return test;
}

fs::path data_path(const std::string& name) {
  return name == "fashion-mnist" ? fs::path(kFashionFolder) : fs::path(name);
}

std::string name_of(const fs::path& path) {
  const auto whole = fs::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

Dataset load_dataset(const std::string& what, const PictureOptions& options) {
  const fs::path folder = existing_folder(what);
  if (!fs::is_directory(folder) && !is_data_file(folder))
    throw DataError(what +
                    ": expected a folder of training and test data, a list or table (.csv, "
                    ".jsonl), arrays (.npz) or an archive (.tar), got another file");
  Dataset d = load_folder(folder, options);
  d.name = what == "fashion-mnist" ? what : name_of(folder);
  if (d.train.size() == 0 || d.test.size() == 0)
    throw DataError(what + ": expected training and test samples, got none");
  for (Samples* s : {&d.train, &d.test, &d.validation})
    if (s->inputs.defined()) s->inputs = sized(s->inputs, what, options);
  for (const Samples* s : {&d.test, &d.validation})
    if (s->inputs.defined() && d.train.inputs.shape() != s->inputs.shape())
      throw DataError(
          what + ": expected training and test data of one size; set `image-size` N for pictures");
  std::vector<at::Tensor> parts{d.train.labels, d.test.labels};
  if (d.validation.labels.defined()) parts.push_back(d.validation.labels);
  const auto labels = torch::cat(parts);
  const auto low = labels.min().item<std::int64_t>(), high = labels.max().item<std::int64_t>();
  if (low < 0 || high >= 100000)
    throw DataError(what + ": expected labels 0 to 99999, got " +
                    std::to_string(low < 0 ? low : high));
  if (what == "fashion-mnist" && high == 9) d.class_names = kFashionClasses;
  // Names that are given are those of all.
  if (!d.class_names.empty() && high >= d.classes())
    throw DataError(what + ": expected labels below " + std::to_string(d.classes()) +
                    ", as many as there are names of classes, got " + std::to_string(high));
  for (auto c = d.classes(); c <= high; ++c) d.class_names.push_back(std::to_string(c));
  return d;
}

PictureFiles pictures_of(const fs::path& path) {
  PictureFiles files;
  if (fs::is_directory(path)) {
    const auto format = format_of(path);
    if (format == Format::kPictures) return pictures_below(path);
    if (format == Format::kTar) files.files = tar_pictures(path);
    return files;
  }
  if (is_picture_name(path)) files.files = {path};
  if (is_manifest_name(path) && !is_table(path)) files.files = manifest_pictures(path);
  if (is_tar_name(path)) files.files = tar_pictures(path);
  return files;
}

bool learns_from(const std::string& what, const fs::path& place) {
  const auto data = data_path(what);
  if (!fs::exists(data)) return false;
  std::error_code none;
  const auto inside =
      fs::weakly_canonical(place, none).lexically_relative(fs::weakly_canonical(data, none));
  const bool lies_in = !inside.empty() && *inside.begin() != "..";
  try {
    const auto format = format_of(data);
    if (format == Format::kPictures || format == Format::kManifest || format == Format::kTar)
      return learns_pictures(data, format, place);
    const auto test = format == Format::kIdx      ? find_file(files_in(data), kIdxTest, "images")
                      : format == Format::kArrays ? test_array(data)
                                                  : fs::path();
    return lies_in && !fs::equivalent(place, test, none);
  } catch (const DataError&) {  // of data that are no longer a set
    return lies_in;
  }
}

Inputs load_inputs(const std::string& what, const PictureOptions& options) {
  const fs::path path = existing_folder(what);
  const auto found = pictures_of(path);
  if (found.files.empty()) {
    if (fs::is_directory(path) ? format_of(path) == Format::kTar : is_tar_name(path))
      throw DataError(path.string() + ": expected pictures in the TAR archive, got none");
    return sized(arrays_of(path), what, options);
  }
  check_picture_files(found, path, options.strict);
  return sized(load_picture_list({found.files, {}}, path, options).inputs, what, options);
}

}  // namespace ood
