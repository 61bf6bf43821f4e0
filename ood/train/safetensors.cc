#include "ood/train/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

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

// Writes all of `parts` to a temporary file, makes it durable and renames it.
void write_parts(const std::filesystem::path& path,
                 const std::vector<std::pair<const void*, std::size_t>>& parts) {
  const std::string temporary = path.string() + ".tmp";
  const auto fail = [&](const char* what, int fd) {
    const std::string reason = std::strerror(errno);
    if (fd >= 0) ::close(fd);
    ::unlink(temporary.c_str());
    throw DataError(path.string() + ": " + what + ": " + reason);
  };
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) fail("cannot be written", -1);
  for (const auto& [data, size] : parts) {
    const auto* bytes = static_cast<const char*>(data);
    for (std::size_t done = 0; done < size;) {
      const auto n = ::write(fd, bytes + done, size - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("cannot be written", fd);
      done += static_cast<std::size_t>(n);
    }
  }
  if (::fsync(fd) != 0) fail("cannot be made durable", fd);
  if (::close(fd) != 0) fail("cannot be closed", -1);
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail("cannot be renamed into place", -1);
  // The new name, too, must survive a power cut.
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  if (const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
    ::fsync(dir);
    ::close(dir);
  }
}

}  // namespace

at::Tensor TensorFile::find(const std::string& name) const {
  for (const auto& [n, t] : tensors)
    if (n == name) return t;
  return {};
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  write_parts(path, {{text.data(), text.size()}});
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  json header;
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
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
  std::vector<std::pair<const void*, std::size_t>> parts = {{&length, sizeof length},
                                                            {text.data(), text.size()}};
  for (const auto& t : contiguous) parts.emplace_back(t.const_data_ptr(), t.nbytes());
  write_parts(path, parts);
}

TensorFile read_safetensors(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(name + ": cannot be opened");
  const auto size = std::filesystem::file_size(path);
  std::uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  if (!in || length > size - sizeof length)
    throw DataError(name + ": expected a safetensors file, got something else or a truncated one");
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  const std::uint64_t data_size = size - sizeof length - length;
  TensorFile file;
  try {
    const json header = json::parse(text);
    for (const auto& [key, value] : header.items()) {
      if (key == "__metadata__") {
        file.metadata = value.get<std::map<std::string, std::string>>();
        continue;
      }
      const std::string dtype = value.at("dtype");
      const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                      [&](const TypeName& t) { return dtype == t.name; });
      if (type == std::end(kTypes)) throw DataError(name + ": unsupported type " + dtype);
      const std::vector<std::int64_t> shape = value.at("shape");
      const std::uint64_t begin = value.at("data_offsets").at(0),
                          end = value.at("data_offsets").at(1);
      std::uint64_t bytes = c10::elementSize(type->type);
      for (const auto s : shape) {
        if (s < 0 || (s > 0 && bytes > data_size / static_cast<std::uint64_t>(s)))
          throw DataError(name + ": truncated or damaged at tensor " + key);
        bytes *= static_cast<std::uint64_t>(s);
      }
      if (end > data_size || begin > end || bytes != end - begin)
        throw DataError(name + ": truncated or damaged at tensor " + key);
      auto tensor = torch::empty(shape, type->type);
      in.seekg(static_cast<std::streamoff>(sizeof length + length + begin));
      in.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(bytes));
      if (!in) throw DataError(name + ": truncated at tensor " + key);
      file.tensors.emplace_back(key, tensor);
    }
  } catch (const nlohmann::json::exception&) {
    throw DataError(name + ": expected a safetensors file, its header is damaged");
  }
  return file;
}

}  // namespace ood
