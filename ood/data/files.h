#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

/// The one way in which files are written, and small ones read.
namespace ood {

struct Bytes {
  const void* data;
  std::size_t size;
};

/// Writes the parts one after another so that the file is whole or as it was before, also after a
/// power cut: under a temporary name of its own beside it, made durable, renamed. The file keeps
/// its mode, a link stays and its target is written; a device or pipe is written as it is. DataError
/// where that cannot be.
void write_file(const std::filesystem::path& path, const std::vector<Bytes>& parts);
void write_file(const std::filesystem::path& path, const std::string& text);
/// The same of parts that `content` makes one after another and gives to what it is called with.
/// Whatever it throws leaves the file as it was.
using PutBytes = std::function<void(const Bytes&)>;
void write_file_of(const std::filesystem::path& path,
                   const std::function<void(const PutBytes&)>& content);

/// An open file, closed with this; below 0: none.
struct OpenFile {
  explicit OpenFile(int opened) : fd(opened) {}
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd;
};

/// All of it to an open file, which errors call `path`; DataError.
void write_all(int fd, const Bytes& bytes, const std::filesystem::path& path);

/// Whether its name begins with a dot, as that of what is not data.
bool is_hidden(const std::filesystem::path& path);

/// What lies in a folder and `keep` takes, sorted by name; hidden entries are left out. DataError where
/// it cannot be read.
std::vector<std::filesystem::path> entries_of(
    const std::filesystem::path& folder,
    const std::function<bool(const std::filesystem::directory_entry&)>& keep);

/// Removes what killed writers left in a folder.
void remove_temporaries(const std::filesystem::path& folder);

/// The content of a regular file of at most `limit` bytes; DataError.
std::string read_text(const std::filesystem::path& path, std::uint64_t limit);

/// DataError where a name is not UTF-8, which results and models are written in.
void check_name(const std::string& what, const std::string& name);

/// The value, or a discarded one where the text is no JSON or is nested deeper than anything that
/// this program writes.
nlohmann::ordered_json parse_json(const std::string& text);

/// A number of a file that counts something, which `what` names; DataError where it has a fraction
/// or does not fit, which the JSON library would convert all the same.
std::int64_t whole_number(const nlohmann::ordered_json& value, const std::string& what);

}  // namespace ood
