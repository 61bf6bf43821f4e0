#include "ood/data/npy.h"

#include <algorithm>
#include <cctype>
#include <fstream>

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
std::string entry(const std::string& header, const std::string& key, const std::string& name) {
  const auto at = header.find("'" + key + "':");
  if (at == std::string::npos)
    throw DataError(name + ": the array's header has no " + key + "; the file is damaged");
  auto begin = at + key.size() + 3;
  while (begin < header.size() && header[begin] == ' ') ++begin;
  const char close = header[begin] == '(' ? ')' : header[begin] == '\'' ? '\'' : ',';
  const auto end = header.find(close, begin + 1);
  return header.substr(begin, end == std::string::npos ? end : end - begin + (close != ','));
}

// Up to the numbers, of which `part` has the first.
std::string start_of(const at::Tensor& part, std::int64_t rows) {
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& t) {
    return t.type == part.scalar_type() && !t.is_unsigned;
  });
  TORCH_INTERNAL_ASSERT(type != std::end(kTypes));
  std::string shape = std::to_string(rows) + ", ";
  for (std::int64_t i = 1; i < part.dim(); ++i) shape += std::to_string(part.size(i)) + ", ";
  std::string header = "{'descr': '" + std::string(type->code) +
                       "', 'fortran_order': False, 'shape': (" + shape + "), }";
  // Magic, version 1.0, two bytes of length; the numbers begin at a multiple of 64.
  constexpr std::size_t kBefore = 10, kAlign = 64;
  header.resize((kBefore + header.size() + 1 + kAlign - 1) / kAlign * kAlign - kBefore, ' ');
  header.back() = '\n';
  std::string start("\x93NUMPY\x01\x00", 8);
  start += {static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return start + header;
}

}  // namespace

at::Tensor read_npy(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(path.string() + ": cannot be opened");
  return read_npy(in, fs::file_size(path), path.string());
}

at::Tensor read_npy(std::istream& in, std::uint64_t size, const std::string& name) {
  unsigned char start[12] = {};
  in.read(reinterpret_cast<char*>(start), 10);
  if (!in || std::string(reinterpret_cast<char*>(start), 6) != "\x93NUMPY")
    throw DataError(name + ": expected a NumPy array (.npy), got something else");
  std::uint64_t length = start[8] | (start[9] << 8);
  std::uint64_t offset = 10;
  if (start[6] >= 2) {
    in.read(reinterpret_cast<char*>(start + 10), 2);
    length |= (std::uint64_t{start[10]} << 16) | (std::uint64_t{start[11]} << 24);
    offset = 12;
  }
  constexpr std::uint64_t kLongest = 1 << 16;
  if (start[6] < 1 || start[6] > 3 || length > kLongest)
    throw DataError(name +
                    ": expected a NumPy array of version 1, 2 or 3 with a short header; "
                    "the file is damaged");
  if (!in || length > size - offset)
    throw DataError(name + ": truncated: the file ends inside its header");
  std::string header(length, ' ');
  in.read(header.data(), static_cast<std::streamsize>(length));
  const auto descr = entry(header, "descr", name);
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& t) {
    return descr == "'" + std::string(t.code) + "'";
  });
  if (type == std::end(kTypes))
    throw DataError(name + ": expected numbers, little endian, got type " + descr);
  if (entry(header, "fortran_order", name).rfind("False", 0) != 0)
    throw DataError(name + ": is in Fortran order; save it with numpy.ascontiguousarray");
  std::vector<std::int64_t> shape;
  const auto text = entry(header, "shape", name);
  if (text.find_first_not_of("0123456789(), L") != std::string::npos)
    throw DataError(name + ": expected a shape such as (2, 3), got " + text);
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
      throw DataError(name + ": truncated: the shape " + text +
                      " asks for more than a file can hold");
    asked *= std::max<std::uint64_t>(side, 1);
    bytes *= side;
  }
  if (bytes > size - offset - length)
    throw DataError(name + ": truncated: the header promises " + std::to_string(bytes) +
                    " bytes, the file has " + std::to_string(size - offset - length));
  if (bytes < size - offset - length)
    throw DataError(name + ": has bytes beyond the " + std::to_string(bytes) +
                    " that its header promises");
  auto data = torch::empty(shape, type->type);
  in.read(static_cast<char*>(data.data_ptr()), static_cast<std::streamsize>(bytes));
  if (!in) throw DataError(name + ": cannot be read");
  return type->is_unsigned ? widened(data, type->type) : data;
}

void write_npy(const fs::path& path, const at::Tensor& values) {
  write_npy(path, values.size(0), [&](const PutRows& put) { put(values); });
}

void write_npy(const fs::path& path, std::int64_t rows,
               const std::function<void(const PutRows&)>& content) {
  write_file_of(path, [&](const PutBytes& put) {
    std::int64_t done = -1;
    content([&](const at::Tensor& part) {
      if (done < 0) {
        const auto start = start_of(part, rows);
        put({start.data(), start.size()});
        done = 0;
      }
      const auto numbers = part.contiguous();
      put({numbers.const_data_ptr(), numbers.nbytes()});
      done += numbers.size(0);
    });
    TORCH_INTERNAL_ASSERT(done == rows);
  });
}

}  // namespace ood
