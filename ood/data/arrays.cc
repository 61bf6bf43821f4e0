#include "ood/data/arrays.h"

#include <algorithm>
#include <functional>
#include <map>
#include <sstream>

#ifdef OOD_ZIP
#include <zip.h>
#endif

#include "ood/data/class_list.h"
#include "ood/data/files.h"
#include "ood/data/npy.h"
#include "ood/errors.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

// One of several arrays, which is read when it is wanted.
struct Array {
  std::string stem;  // its name without folder and ending
  std::string name;  // for errors
  std::function<at::Tensor()> read;
};
using Arrays = std::vector<Array>;

bool is_labels(const std::string& stem) {
  return stem.find("label") != std::string::npos || stem.find("target") != std::string::npos ||
         stem.rfind("y_", 0) == 0;
}

bool is_of(const std::string& stem, const std::string& part) {
  return stem.starts_with(part) || stem.ends_with(part);
}

const Array* find(const Arrays& arrays, const std::string& part, bool labels) {
  const auto it = std::find_if(arrays.begin(), arrays.end(), [&](const Array& a) {
    return is_of(lower(a.stem), part) && is_labels(lower(a.stem)) == labels;
  });
  return it == arrays.end() ? nullptr : &*it;
}

Arrays arrays_in(const fs::path& folder) {
  auto files = entries_of(
      folder, [](const auto& e) { return lower(e.path().extension().string()) == ".npy"; });
  // As folders of those names would be: "house" stands before "house plant", ending or not.
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.stem() < b.stem(); });
  Arrays arrays;
  for (const auto& f : files)
    arrays.push_back({f.stem().string(), f.string(), [f] { return read_npy(f); }});
  return arrays;
}

// Pictures as [N, C, H, W], embeddings as [N, D, 1, 1].
at::Tensor as_inputs(at::Tensor x, const std::string& name) {
  for (std::int64_t i = 1; i < x.dim(); ++i)
    if (x.size(i) == 0) throw DataError(name + ": expected rows of numbers, got rows of none");
  if (x.is_floating_point()) {
    if (x.dim() != 2)
      throw DataError(name + ": expected embeddings [N, D], got " + std::to_string(x.dim()) +
                      " dimensions");
    x = x.to(torch::kFloat);
    if (!x.isfinite().all().item<bool>())
      throw DataError(name + ": expected finite numbers, got NaN or infinity");
    return x.view({x.size(0), x.size(1), 1, 1});
  }
  if (x.scalar_type() == at::kByte && x.dim() == 2) {
    const auto side = std::llround(std::sqrt(static_cast<double>(x.size(1))));
    constexpr std::int64_t kLeastSide = 8;
    if (side >= kLeastSide && side * side == x.size(1)) x = x.view({x.size(0), side, side});
  }
  if (x.scalar_type() != at::kByte || (x.dim() != 3 && x.dim() != 4))
    throw DataError(name +
                    ": expected embeddings (floating, [N, D]) or pictures (uint8, [N, H, W] or "
                    "[N, C, H, W]), got " +
                    at::toString(x.scalar_type()) + " of " + std::to_string(x.dim()) +
                    " dimensions");
  const auto is_channels = [&](std::int64_t dim) { return x.size(dim) == 1 || x.size(dim) == 3; };
  if (x.dim() == 4 && !is_channels(1) && is_channels(3)) x = x.permute({0, 3, 1, 2}).contiguous();
  constexpr std::int64_t kMostLast = 4;
  if (x.dim() == 4 && !is_channels(1) && x.size(1) > kMostLast && x.size(2) > kMostLast &&
      x.size(3) <= kMostLast)
    throw DataError(name +
                    ": expected pictures [N, C, H, W], or [N, H, W, C] of 1 or 3 channels, got " +
                    c10::str(x.sizes()) + "; of RGBA save the first three");
  const auto height = x.size(x.dim() - 2), width = x.size(x.dim() - 1);
  if (std::min(height, width) == 1 && std::max(height, width) >= 16)
    throw DataError(name + ": expected pictures, got rows of " + std::to_string(height) + "x" +
                    std::to_string(width) +
                    "; if these are flattened pictures, save them as [N, H, W]");
  return x.dim() == 3 ? x.unsqueeze(1) : x;
}

at::Tensor as_labels(at::Tensor labels, const std::string& name) {
  if (labels.dim() == 2 && labels.size(1) == 1) labels = labels.squeeze(1);
  if (labels.dim() != 1 || !at::isIntegralType(labels.scalar_type(), false))
    throw DataError(name + ": expected integer labels of 1 dimension, got " +
                    at::toString(labels.scalar_type()) + " of " + std::to_string(labels.dim()) +
                    " dimensions");
  return labels.to(torch::kLong);
}

Samples labelled(const Array& inputs, const Array& labels) {
  Samples s{as_inputs(inputs.read(), inputs.name), as_labels(labels.read(), labels.name)};
  if (s.labels.size(0) != s.size())
    throw DataError(inputs.name + " has " + std::to_string(s.size()) + " rows, " +
                    fs::path(labels.name).filename().string() + " has " +
                    std::to_string(s.labels.size(0)) + " labels; expected as many of each");
  return s;
}

void divide(Dataset& d, const Samples& all, const std::string& from) {
  tell_of_test_share(from);
  std::vector<std::int64_t> train_rows, test_rows;
  std::map<std::int64_t, std::int64_t> seen;
  const auto* labels = all.labels.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < all.size(); ++i)
    (is_test_share(seen[labels[i]]++) ? test_rows : train_rows).push_back(i);
  d.train = all.select(train_rows);
  d.test = all.select(test_rows);
}

bool are_labelled(const Arrays& arrays) {
  return find(arrays, "train", false) != nullptr && find(arrays, "train", true) != nullptr;
}

Dataset load(const Arrays& arrays) {
  Dataset d;
  const auto part = [&](const char* name) {
    const Array *inputs = find(arrays, name, false), *labels = find(arrays, name, true);
    return inputs != nullptr && labels != nullptr ? labelled(*inputs, *labels) : Samples();
  };
  d.train = part("train");
  d.test = part("test");
  d.validation = part("val");
  const Array* val = find(arrays, "val", false);
  complete(d, find(arrays, "train", false)->name, val == nullptr ? "" : val->name);
  return d;
}

std::vector<std::string> class_names_of(const fs::path& folder) {
  const auto path = folder / kClassNames;
  const auto names = read_class_names(path);
  for (auto it = names.begin(); it != names.end(); ++it)
    if (std::find(names.begin(), it, *it) != it)
      throw DataError(path.string() + ": expected a name of its own for each class, got \"" + *it +
                      "\" twice");
  return names;
}

#ifdef OOD_ZIP
struct CloseZip {
  void operator()(zip_t* z) const { zip_discard(z); }
  void operator()(zip_file_t* f) const { zip_fclose(f); }
};

at::Tensor member(const fs::path& path, zip_t* zip, zip_uint64_t index) {
  zip_stat_t about;
  zip_stat_init(&about);
  zip_stat_index(zip, index, 0, &about);
  const std::string name = path.string() + ", " + zip_get_name(zip, index, 0);
  const std::unique_ptr<zip_file_t, CloseZip> file(zip_fopen_index(zip, index, 0));
  // A small file may promise more than the memory holds: it is read as far as it goes.
  std::string content;
  std::vector<char> part(1 << 20);
  zip_int64_t n = file ? 1 : -1;
  while (n > 0 && content.size() <= about.size) {
    n = zip_fread(file.get(), part.data(), part.size());
    if (n > 0) content.append(part.data(), static_cast<std::size_t>(n));
  }
  if (n >= 0 && content.size() != about.size)
    throw DataError(name + ": is damaged: it is not as long as the file promises");
  if (n < 0)
    throw DataError(name +
                    ": is damaged: " + (file ? zip_file_strerror(file.get()) : zip_strerror(zip)));
  const auto size = content.size();
  std::istringstream in(std::move(content));
  return read_npy(in, size, name);
}
#endif

}  // namespace

bool is_array_folder(const fs::path& folder) { return are_labelled(arrays_in(folder)); }

bool is_folder_of_class_arrays(const fs::path& folder) { return !arrays_in(folder).empty(); }

void complete(Dataset& d, const std::string& train, const std::string& val) {
  if (!d.test.inputs.defined() && d.validation.inputs.defined()) {
    tell_val_is_test(val);
    std::swap(d.test, d.validation);
  }
  if (!d.test.inputs.defined()) divide(d, Samples(d.train), train);
}

Dataset load_array_folder(const fs::path& folder) {
  Dataset d = load(arrays_in(folder));
  d.class_names = class_names_of(folder);
  return d;
}

fs::path test_array(const fs::path& folder) {
  const auto arrays = arrays_in(folder);
  for (const char* part : {"test", "val"})
    if (const Array* inputs = find(arrays, part, false); inputs && find(arrays, part, true))
      return inputs->name;
  return {};
}

Dataset load_npz(const fs::path& path) {
#ifdef OOD_ZIP
  int error = 0;
  const std::unique_ptr<zip_t, CloseZip> zip(zip_open(path.c_str(), ZIP_RDONLY, &error));
  if (!zip) {
    zip_error_t text;
    zip_error_init_with_code(&text, error);
    const std::string why = zip_error_strerror(&text);
    zip_error_fini(&text);
    throw DataError(path.string() + ": expected arrays (.npz): " + why);
  }
  Arrays arrays;
  for (zip_int64_t i = 0; i < zip_get_num_entries(zip.get(), 0); ++i) {
    const char* name = zip_get_name(zip.get(), static_cast<zip_uint64_t>(i), 0);
    if (name == nullptr) continue;
    arrays.push_back(
        {fs::path(name).stem().string(), path.string() + ", " + name,
         [&path, z = zip.get(), i] { return member(path, z, static_cast<zip_uint64_t>(i)); }});
  }
  if (!are_labelled(arrays))
    throw DataError(
        path.string() +
        ": expected arrays train and train_labels (or x_train and y_train), found none");
  return load(arrays);
#else
  throw DataError(path.string() + ": cannot be read: built without libzip (libzip-dev)");
#endif
}

Dataset load_class_arrays(const fs::path& folder) {
  Dataset d;
  std::vector<at::Tensor> inputs, labels;
  const Arrays arrays = arrays_in(folder);
  const auto is_part = [](const Array& a) {
    const auto stem = lower(a.stem);
    return is_labels(stem) || is_of(stem, "train") || is_of(stem, "val") || is_of(stem, "test");
  };
  if (std::all_of(arrays.begin(), arrays.end(), is_part))
    throw DataError(folder.string() +
                    ": expected train.npy with train_labels.npy, or a .npy a class; got " +
                    fs::path(arrays.front().name).filename().string() + " alone");
  for (const Array& a : arrays) {
    const auto x = as_inputs(a.read(), a.name);
    if (!inputs.empty() && (x.sizes().slice(1) != inputs.front().sizes().slice(1) ||
                            x.scalar_type() != inputs.front().scalar_type()))
      throw DataError(a.name + ": expected rows of " + c10::str(inputs.front().sizes().slice(1)) +
                      ", as in the arrays before, got " + c10::str(x.sizes().slice(1)));
    inputs.push_back(x);
    labels.push_back(
        torch::full({x.size(0)}, static_cast<std::int64_t>(d.class_names.size()), torch::kLong));
    // As QuickDraw names its files.
    const std::string prefix = "full_numpy_bitmap_";
    d.class_names.push_back(a.stem.rfind(prefix, 0) == 0 ? a.stem.substr(prefix.size()) : a.stem);
  }
  divide(d, {torch::cat(inputs), torch::cat(labels)}, folder.string());
  return d;
}

Inputs load_npy_inputs(const fs::path& path) { return as_inputs(read_npy(path), path.string()); }

}  // namespace ood
