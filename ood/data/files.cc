#include "ood/data/files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "ood/errors.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporary = ".ood-tmp";

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw DataError(path.string() + ": " + what + ": " + std::strerror(errno));
}

// What is open and not yet in place, which goes if that does not come about.
struct Unfinished {
  int fd = -1;
  std::string temporary{};
  ~Unfinished() {
    if (fd >= 0) ::close(fd);
    if (!temporary.empty()) ::unlink(temporary.c_str());
  }
};

// A name that no other process and no other thread has.
std::string temporary_name(const fs::path& target) {
  static std::atomic<int> count{0};
  return target.string() + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) +
         kTemporary;
}

// By another process, which is still there.
bool is_being_written(const fs::path& temporary) {
  const std::string name = temporary.stem().string();
  const int writer = std::atoi(name.c_str() + name.rfind('.') + 1);
  return writer > 0 && writer != ::getpid() && (::kill(writer, 0) == 0 || errno == EPERM);
}

}  // namespace

OpenFile::~OpenFile() {
  if (fd >= 0) ::close(fd);
}

void write_all(int fd, const Bytes& bytes, const fs::path& path) {
  const auto* from = static_cast<const char*>(bytes.data);
  for (std::size_t done = 0; done < bytes.size;) {
    const auto n = ::write(fd, from + done, bytes.size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "cannot be written");
    done += static_cast<std::size_t>(n);
  }
}

void write_file(const fs::path& path, const std::vector<Bytes>& parts) {
  write_file_of(path, [&](const PutBytes& put) {
    for (const auto& part : parts) put(part);
  });
}

void write_file_of(const fs::path& path, const std::function<void(const PutBytes&)>& content) {
  fs::path target = path;
  struct stat about {};
  const bool exists = ::stat(path.c_str(), &about) == 0;
  Unfinished file;
  auto& [fd, temporary] = file;
  const PutBytes put = [&](const Bytes& part) { write_all(file.fd, part, path); };
  if (exists && !S_ISREG(about.st_mode)) {
    fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) fail(path, "cannot be written");
    content(put);
    const int done = std::exchange(fd, -1);
    if (::close(done) != 0) fail(path, "cannot be closed");
    return;
  }
  std::error_code error;
  if (fs::is_symlink(path, error)) {
    target = fs::weakly_canonical(path, error);
    if (error) throw DataError(path.string() + ": cannot be written: " + error.message());
  }
  const std::string name = temporary_name(target);
  fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) fail(path, "cannot be written");
  temporary = name;
  if (exists && ::fchmod(fd, about.st_mode & 07777) != 0) fail(path, "its mode cannot be kept");
  content(put);
  if (::fsync(fd) != 0) fail(path, "cannot be made durable");
  const int done = std::exchange(fd, -1);
  if (::close(done) != 0) fail(path, "cannot be closed");
  if (::rename(temporary.c_str(), target.c_str()) != 0) fail(path, "cannot be renamed into place");
  temporary.clear();
  // The new name, too, must survive a power cut.
  const auto folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  if (const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
    ::fsync(dir);
    ::close(dir);
  }
}

void write_file(const fs::path& path, const std::string& text) {
  write_file(path, {{text.data(), text.size()}});
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<fs::path> entries_of(const fs::path& folder,
                                 const std::function<bool(const fs::directory_entry&)>& keep) {
  std::vector<fs::path> kept;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (!is_hidden(entry.path()) && keep(entry)) kept.push_back(entry.path());
  if (error) throw DataError(folder.string() + ": cannot be read: " + error.message());
  std::sort(kept.begin(), kept.end());
  return kept;
}

void remove_temporaries(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> left;
  for (const auto& e : fs::directory_iterator(folder, ignored))
    if (e.path().extension() == kTemporary && !is_being_written(e.path())) left.push_back(e.path());
  for (const auto& path : left) fs::remove(path, ignored);
}

std::string read_text(const fs::path& path, std::uint64_t limit) {
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    throw DataError(path.string() + (fs::exists(path, error)
                                         ? ": expected a file, got another thing"
                                         : ": no such file"));
  const auto size = fs::file_size(path, error);
  if (error || size > limit)
    throw DataError(path.string() + ": expected at most " + std::to_string(limit) + " bytes, got " +
                    std::to_string(size));
  std::ifstream in(path, std::ios::binary);
  std::string text(size, '\0');
  in.read(text.data(), static_cast<std::streamsize>(size));
  if (!in) throw DataError(path.string() + ": cannot be read");
  return text;
}

void check_name(const std::string& what, const std::string& name) {
  try {
    (void)nlohmann::json(name).dump();
  } catch (const nlohmann::json::exception&) {
    std::string shown;
    for (const char c : name) {
      const auto byte = static_cast<unsigned char>(c);
      char code[8];
      std::snprintf(code, sizeof code, byte < 0x80 ? "%c" : "\\x%02x", byte);
      shown += code;
    }
    throw DataError(what + " " + shown + ": expected a name in UTF-8; rename it");
  }
}

nlohmann::ordered_json parse_json(const std::string& text) {
  constexpr int kDeepest = 32;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        quoted = false;
      continue;
    }
    if (text[i] == '"') quoted = true;
    if (text[i] == '[' || text[i] == '{') ++depth;
    if (text[i] == ']' || text[i] == '}') --depth;
    if (depth > kDeepest) return nlohmann::ordered_json(nlohmann::ordered_json::value_t::discarded);
  }
  return nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::int64_t whole_number(const nlohmann::ordered_json& value, const std::string& what) {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<std::uint64_t>() > kLargest))
    throw DataError(what + ": expected a whole number, got " + value.dump().substr(0, 40));
  return value.get<std::int64_t>();
}

}  // namespace ood
