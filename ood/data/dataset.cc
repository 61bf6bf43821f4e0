#include "ood/data/dataset.h"

#include <torch/torch.h>

#include <algorithm>

#include "ood/data/idx.h"
#include "ood/errors.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFashionFolder = "/usr/share/datasets/fashion-mnist";
const std::vector<std::string> kFashionClasses = {
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"};

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& e : fs::directory_iterator(folder))
    if (e.is_regular_file()) files.push_back(e.path());
  std::sort(files.begin(), files.end());
  return files;
}

// The first file whose name starts with one of the prefixes and contains `word`.
fs::path find_file(const std::vector<fs::path>& files, std::initializer_list<const char*> prefixes,
                   const char* word) {
  for (const auto& f : files) {
    const std::string name = f.filename().string();
    for (const char* p : prefixes)
      if (name.rfind(p, 0) == 0 && name.find(word) != std::string::npos) return f;
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
  if (s.inputs.size(0) != s.labels.size(0))
    throw DataError(images.string() + " has " + std::to_string(s.inputs.size(0)) + " pictures, " +
                    labels.filename().string() + " has " + std::to_string(s.labels.size(0)) +
                    " labels; expected as many of each");
  return s;
}

fs::path existing_folder(const std::string& what) {
  if (what == "fashion-mnist") {
    if (!fs::is_directory(kFashionFolder))
      throw DataError("fashion-mnist: not installed; apt-get install dataset-fashion-mnist");
    return kFashionFolder;
  }
  if (!fs::exists(what)) throw DataError(what + ": no such file or folder");
  return what;
}

}  // namespace

Samples Samples::select(const std::vector<std::int64_t>& positions) const {
  const auto index = torch::tensor(positions, torch::kLong);
  return {inputs.index_select(0, index),
          labels.defined() ? labels.index_select(0, index) : at::Tensor()};
}

Dataset load_dataset(const std::string& what) {
  const fs::path folder = existing_folder(what);
  if (!fs::is_directory(folder))
    throw DataError(what +
                    ": expected a folder with train-images*, train-labels*, t10k-images* and "
                    "t10k-labels* idx files, got a file");
  const auto files = files_in(folder);
  const auto need = [&](std::initializer_list<const char*> prefixes, const char* word) {
    const auto f = find_file(files, prefixes, word);
    if (f.empty())
      throw DataError(what + ": expected an idx file " + *prefixes.begin() + word +
                      "* in the folder, found none");
    return f;
  };
  Dataset d;
  d.name = what == "fashion-mnist" ? what : folder.filename().string();
  if (d.name.empty()) d.name = folder.parent_path().filename().string();
  d.train = labelled(need({"train-"}, "images"), need({"train-"}, "labels"));
  d.test = labelled(need({"t10k-", "test-"}, "images"), need({"t10k-", "test-"}, "labels"));
  if (d.train.size() == 0 || d.test.size() == 0)
    throw DataError(what + ": expected training and test pictures, got none");
  if (d.train.inputs.sizes().slice(1) != d.test.inputs.sizes().slice(1))
    throw DataError(what + ": expected training and test pictures of one size");
  const std::int64_t classes = std::max(d.train.labels.max().item<std::int64_t>(),
                                        d.test.labels.max().item<std::int64_t>()) +
                               1;
  if (what == "fashion-mnist" && classes == 10) {
    d.class_names = kFashionClasses;
  } else {
    for (std::int64_t c = 0; c < classes; ++c) d.class_names.push_back(std::to_string(c));
  }
  return d;
}

Samples load_inputs(const std::string& what) {
  const fs::path path = existing_folder(what);
  if (!fs::is_directory(path)) return {pictures(path), {}};
  const auto files = files_in(path);
  auto images = find_file(files, {"t10k-", "test-"}, "images");
  if (images.empty()) images = find_file(files, {""}, "images");
  if (images.empty())
    throw DataError(what + ": expected an idx file *images* in the folder, found none");
  return {pictures(images), {}};
}

}  // namespace ood
