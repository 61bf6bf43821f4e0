#include "ood/train/safetensors.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ood/data/checksum.h"
#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;

struct TypeName {
  const char* name;
  at::ScalarType type;
};
constexpr TypeName kTypes[] = {{"F64", at::kDouble}, {"F32", at::kFloat}, {"BF16", at::kBFloat16},
                               {"F16", at::kHalf},   {"I64", at::kLong},  {"I32", at::kInt},
                               {"U8", at::kByte},    {"BOOL", at::kBool}};

std::string type_name(at::ScalarType type) {
  for (const auto& t : kTypes)
    if (t.type == type) return t.name;
  throw DataError(std::string("safetensors: unsupported type ") + at::toString(type));
}

constexpr const char* kChecksum = "checksum";

// CRC-32 of the metadata by key and of the tensors by name with type, shape and numbers, as
// python/ood/runs.py computes it, too.
std::string checksum_of(const TensorFile& file) {
  Checksum sum;
  const auto add_text = [&](const std::string& text) { sum.add(text.c_str(), text.size() + 1); };
  for (const auto& [key, value] : file.metadata) {
    if (key == kChecksum) continue;
    add_text(key);
    add_text(value);
  }
  std::map<std::string, at::Tensor> by_name(file.tensors.begin(), file.tensors.end());
  for (const auto& [name, tensor] : by_name) {
    std::string shape;
    for (const auto side : tensor.sizes()) shape += std::to_string(side) + ",";
    add_text(name);
    add_text(type_name(tensor.scalar_type()));
    add_text(shape);
    const auto numbers = tensor.detach().cpu().contiguous();
    if (numbers.nbytes() > 0) sum.add(numbers.const_data_ptr(), numbers.nbytes());
  }
  return sum.text();
}

}  // namespace

at::Tensor TensorFile::find(const std::string& name) const {
  for (const auto& [n, t] : tensors)
    if (n == name) return t;
  return {};
}

std::string TensorFile::text(const std::string& key) const {
  const auto it = metadata.find(key);
  return it == metadata.end() ? "" : it->second;
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  json header;
  auto metadata = file.metadata;
  metadata[kChecksum] = checksum_of(file);
  header["__metadata__"] = metadata;
  std::vector<at::Tensor> contiguous;
  std::size_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    contiguous.push_back(tensor.detach().cpu().contiguous());
    const std::size_t end = offset + contiguous.back().nbytes();
    header[name] = {{"dtype", type_name(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::vector<Bytes> parts = {{&length, sizeof length}, {text.data(), text.size()}};
  for (const auto& t : contiguous) parts.push_back({t.const_data_ptr(), t.nbytes()});
  write_file(path, parts);
}

TensorFile read_safetensors(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code error;
  std::ifstream in(path, std::ios::binary);
  if (!in || !std::filesystem::is_regular_file(path, error))
    throw DataError(name + ": cannot be opened");
  const auto size = std::filesystem::file_size(path);
  std::uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  constexpr std::uint64_t kLongest = 100 << 20;  // as the format's own library has it
  if (!in || length > size - sizeof length || length > kLongest)
    throw DataError(name + ": expected a safetensors file, got something else or a truncated one");
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  const std::uint64_t data_size = size - sizeof length - length;
  TensorFile file;
  std::map<std::uint64_t, std::uint64_t> used;  // end of the tensor by its begin
  try {
    const json header = parse_json(text);
    if (!header.is_object())
      throw DataError(name + ": expected a safetensors file, its header is damaged");
    for (const auto& [key, value] : header.items()) {
      if (key == "__metadata__") {
        file.metadata = value.get<std::map<std::string, std::string>>();
        continue;
      }
      const std::string dtype = value.at("dtype");
      const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                      [&](const TypeName& t) { return dtype == t.name; });
      if (type == std::end(kTypes)) throw DataError(name + ": unsupported type " + dtype);
      std::vector<std::int64_t> shape;
      for (const auto& side : value.at("shape"))
        shape.push_back(whole_number(side, name + ": " + key));
      const auto& offsets = value.at("data_offsets");
      const auto begin = static_cast<std::uint64_t>(whole_number(offsets.at(0), name + ": " + key)),
                 end = static_cast<std::uint64_t>(whole_number(offsets.at(1), name + ": " + key));
      // A side of 0 must not hide what the others ask for.
      constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
      std::uint64_t bytes = c10::elementSize(type->type), asked = bytes;
      for (const auto s : shape) {
        const bool fits =
            s >= 0 && asked <= kMost / static_cast<std::uint64_t>(std::max<std::int64_t>(s, 1));
        asked *= static_cast<std::uint64_t>(std::max<std::int64_t>(s, 1));
        if (!fits || (s > 0 && bytes > data_size / static_cast<std::uint64_t>(s)))
          throw DataError(name + ": truncated or damaged at tensor " + key);
        bytes *= static_cast<std::uint64_t>(s);
      }
      if (end > data_size || begin > end || bytes != end - begin)
        throw DataError(name + ": truncated or damaged at tensor " + key);
      if (end > begin && !used.emplace(begin, end).second)
        throw DataError(name + ": damaged: two tensors in one place at " + key);
      auto tensor = torch::empty(shape, type->type);
      in.seekg(static_cast<std::streamoff>(sizeof length + length + begin));
      in.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(bytes));
      if (!in) throw DataError(name + ": truncated at tensor " + key);
      file.tensors.emplace_back(key, tensor);
    }
  } catch (const nlohmann::json::exception&) {
    throw DataError(name + ": expected a safetensors file, its header is damaged");
  }
  std::uint64_t next = 0;
  for (const auto& [begin, end] : used) {
    if (begin != next) throw DataError(name + ": damaged: its tensors do not follow one another");
    next = end;
  }
  if (next != data_size)
    throw DataError(name + ": damaged: " + std::to_string(data_size - next) +
                    " bytes belong to no tensor");
  if (const auto sum = file.metadata.find(kChecksum); sum != file.metadata.end()) {
    if (sum->second != checksum_of(file))
      throw DataError(name +
                      ": damaged: its content has another checksum than when it was written");
    file.metadata.erase(sum);
    file.checked = true;
  }
  return file;
}

}  // namespace ood
