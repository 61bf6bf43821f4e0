#include "ood/data/npy.h"

#include <algorithm>
#include <cctype>
#include <fstream>

#include "ood/data/class_list.h"
#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

struct Type {
  const char* code;
  at::ScalarType type;
  bool is_unsigned = false;  ///< read as signed of the same width, then widened
};
constexpr Type kTypes[] = {
    {"<f4", at::kFloat},       {"<f8", at::kDouble},    {"<f2", at::kHalf},
    {"<i8", at::kLong},        {"<i4", at::kInt},       {"<i2", at::kShort},
    {"<u2", at::kShort, true}, {"<u4", at::kInt, true}, {"<u8", at::kLong, true},
    {"|i1", at::kChar},        {"|u1", at::kByte},      {"|b1", at::kBool}};

// Numbers without sign that were read as ones with sign, as int64; of 64 bits those that fit.
at::Tensor widened(const at::Tensor& data, at::ScalarType type) {
  const auto wide = data.to(at::kLong);
  if (type == at::kLong) return wide;
  const std::int64_t range = std::int64_t{1} << (8 * c10::elementSize(type));
  return torch::where(wide.lt(0), wide + range, wide);
}

// What stands behind 'key': in the header, a Python dictionary of three known entries.
std::string entry(const std::string& header, const std::string& key, const fs::path& path) {
  const auto at = header.find("'" + key + "':");
  if (at == std::string::npos)
    throw DataError(path.string() + ": the array's header has no " + key + "; the file is damaged");
  auto begin = at + key.size() + 3;
  while (begin < header.size() && header[begin] == ' ') ++begin;
  const char close = header[begin] == '(' ? ')' : header[begin] == '\'' ? '\'' : ',';
  const auto end = header.find(close, begin + 1);
  return header.substr(begin, end == std::string::npos ? end : end - begin + (close != ','));
}

fs::path find(const fs::path& folder, const std::string& start, bool labels) {
  std::vector<fs::path> found;
  for (const auto& e : fs::directory_iterator(folder)) {
    const std::string name = e.path().filename().string();
    if (e.path().extension() == ".npy" && name.rfind(start, 0) == 0 &&
        (name.find("label") != std::string::npos) == labels)
      found.push_back(e.path());
  }
  std::sort(found.begin(), found.end());
  return found.empty() ? fs::path() : found.front();
}

Samples labelled(const fs::path& inputs, const fs::path& labels) {
  Samples s = load_npy_inputs(inputs);
  s.labels = read_npy(labels);
  if (s.labels.dim() != 1 || !at::isIntegralType(s.labels.scalar_type(), false))
    throw DataError(labels.string() + ": expected integer labels of 1 dimension, got " +
                    at::toString(s.labels.scalar_type()) + " of " + std::to_string(s.labels.dim()) +
                    " dimensions");
  s.labels = s.labels.to(torch::kLong);
  if (s.labels.size(0) != s.size())
    throw DataError(inputs.string() + " has " + std::to_string(s.size()) + " rows, " +
                    labels.filename().string() + " has " + std::to_string(s.labels.size(0)) +
                    " labels; expected as many of each");
  return s;
}

}  // namespace

at::Tensor read_npy(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(path.string() + ": cannot be opened");
  unsigned char start[12] = {};
  in.read(reinterpret_cast<char*>(start), 10);
  if (!in || std::string(reinterpret_cast<char*>(start), 6) != "\x93NUMPY")
    throw DataError(path.string() + ": expected a NumPy array (.npy), got something else");
  std::uint64_t length = start[8] | (start[9] << 8);
  std::uint64_t offset = 10;
  if (start[6] >= 2) {
    in.read(reinterpret_cast<char*>(start + 10), 2);
    length |= (std::uint64_t{start[10]} << 16) | (std::uint64_t{start[11]} << 24);
    offset = 12;
  }
  const std::uint64_t size = fs::file_size(path);
  constexpr std::uint64_t kLongest = 1 << 16;
  if (start[6] < 1 || start[6] > 3 || length > kLongest)
    throw DataError(path.string() +
                    ": expected a NumPy array of version 1, 2 or 3 with a short header; "
                    "the file is damaged");
  if (!in || length > size - offset)
    throw DataError(path.string() + ": truncated: the file ends inside its header");
  std::string header(length, ' ');
  in.read(header.data(), static_cast<std::streamsize>(length));
  const auto descr = entry(header, "descr", path);
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& t) {
    return descr == "'" + std::string(t.code) + "'";
  });
  if (type == std::end(kTypes))
    throw DataError(path.string() + ": expected numbers, little endian, got type " + descr);
  if (entry(header, "fortran_order", path).rfind("False", 0) != 0)
    throw DataError(path.string() + ": is in Fortran order; save it with numpy.ascontiguousarray");
  std::vector<std::int64_t> shape;
  const auto text = entry(header, "shape", path);
  if (text.find_first_not_of("0123456789(), L") != std::string::npos)
    throw DataError(path.string() + ": expected a shape such as (2, 3), got " + text);
  // A side of 0 must not hide what the others ask for.
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  constexpr std::size_t kDimensions = 8;
  std::uint64_t bytes = c10::elementSize(type->type), asked = bytes;
  for (std::size_t i = 0; i < text.size();) {
    if (!std::isdigit(static_cast<unsigned char>(text[i]))) {
      ++i;
      continue;
    }
    std::uint64_t side = 0;
    for (; i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])); ++i)
      side = std::min(side * 10 + static_cast<std::uint64_t>(text[i] - '0'), kMost);
    shape.push_back(static_cast<std::int64_t>(side));
    if (shape.size() > kDimensions || asked > kMost / std::max<std::uint64_t>(side, 1))
      throw DataError(path.string() + ": truncated: the shape " + text +
                      " asks for more than a file can hold");
    asked *= std::max<std::uint64_t>(side, 1);
    bytes *= side;
  }
  if (bytes > size - offset - length)
    throw DataError(path.string() + ": truncated: the header promises " + std::to_string(bytes) +
                    " bytes, the file has " + std::to_string(size - offset - length));
  if (bytes < size - offset - length)
    throw DataError(path.string() + ": has bytes beyond the " + std::to_string(bytes) +
                    " that its header promises");
  auto data = torch::empty(shape, type->type);
  in.read(static_cast<char*>(data.data_ptr()), static_cast<std::streamsize>(bytes));
  if (!in) throw DataError(path.string() + ": cannot be read");
  return type->is_unsigned ? widened(data, type->type) : data;
}

void write_npy(const fs::path& path, const at::Tensor& values) {
  const auto numbers = values.contiguous();
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& t) {
    return t.type == numbers.scalar_type() && !t.is_unsigned;
  });
  TORCH_INTERNAL_ASSERT(type != std::end(kTypes));
  std::string shape;
  for (const auto side : numbers.sizes()) shape += std::to_string(side) + ", ";
  std::string header = "{'descr': '" + std::string(type->code) +
                       "', 'fortran_order': False, 'shape': (" + shape + "), }";
  // Magic, version 1.0, two bytes of length; the numbers begin at a multiple of 64.
  constexpr std::size_t kBefore = 10, kAlign = 64;
  header.resize((kBefore + header.size() + 1 + kAlign - 1) / kAlign * kAlign - kBefore, ' ');
  header.back() = '\n';
  std::string start("\x93NUMPY\x01\x00", 8);
  start += {static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  write_file(path, {{start.data(), start.size()},
                    {header.data(), header.size()},
                    {numbers.const_data_ptr(), numbers.nbytes()}});
}

bool is_npy_folder(const fs::path& folder) {
  return !find(folder, "train", false).empty() && !find(folder, "train", true).empty();
}

Samples load_npy_inputs(const fs::path& path) {
  auto x = read_npy(path);
  if (x.is_floating_point()) {
    if (x.dim() != 2)
      throw DataError(path.string() + ": expected embeddings [N, D], got " +
                      std::to_string(x.dim()) + " dimensions");
    x = x.to(torch::kFloat);
    if (!x.isfinite().all().item<bool>())
      throw DataError(path.string() + ": expected finite numbers, got NaN or infinity");
    return {x.view({x.size(0), x.size(1), 1, 1}), {}};
  }
  if (x.scalar_type() != at::kByte || (x.dim() != 3 && x.dim() != 4))
    throw DataError(path.string() +
                    ": expected embeddings (floating, [N, D]) or pictures (uint8, [N, H, W] or "
                    "[N, C, H, W]), got " +
                    at::toString(x.scalar_type()) + " of " + std::to_string(x.dim()) +
                    " dimensions");
  const auto height = x.size(x.dim() - 2), width = x.size(x.dim() - 1);
  if (std::min(height, width) == 1 && std::max(height, width) >= 16)
    throw DataError(path.string() + ": expected pictures, got rows of " + std::to_string(height) +
                    "x" + std::to_string(width) +
                    "; if these are flattened pictures, save them as [N, H, W]");
  return {x.dim() == 3 ? x.unsqueeze(1) : x, {}};
}

namespace {

std::vector<std::string> class_names_of(const fs::path& folder) {
  const auto path = folder / kClassNames;
  const auto names = read_class_names(path);
  for (auto it = names.begin(); it != names.end(); ++it)
    if (std::find(names.begin(), it, *it) != it)
      throw DataError(path.string() + ": expected a name of its own for each class, got \"" + *it +
                      "\" twice");
  return names;
}

}  // namespace

Dataset load_npy_folder(const fs::path& folder) {
  Dataset d;
  d.class_names = class_names_of(folder);
  const Samples all = labelled(find(folder, "train", false), find(folder, "train", true));
  const auto test = find(folder, "test", false), test_labels = find(folder, "test", true);
  if (!test.empty() && !test_labels.empty()) {
    d.train = all;
    d.test = labelled(test, test_labels);
    return d;
  }
  std::vector<std::int64_t> train_rows, test_rows;
  std::map<std::int64_t, std::int64_t> seen;
  const auto* labels = all.labels.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < all.size(); ++i)
    (seen[labels[i]]++ % kTestShare == kTestShare - 1 ? test_rows : train_rows).push_back(i);
  d.train = all.select(train_rows);
  d.test = all.select(test_rows);
  return d;
}

}  // namespace ood
