#include "ood/data/tar.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "ood/data/files.h"
#include "ood/data/picture.h"
#include "ood/data/picture_folder.h"
#include "ood/data/picture_inputs.h"
#include "ood/errors.h"
#include "ood/registry/text.h"

#ifdef OOD_TAR
#include <archive.h>
#include <archive_entry.h>
#endif

namespace ood {
namespace {

namespace fs = std::filesystem;

// Of one archive: where its pictures lie, and what is said of their classes.
struct Members {
  std::vector<PictureFile> pictures;
  std::map<std::string, std::string> labels;  // by what stands before the first dot
};

// "a/b.c.png" -> "a/b", "c.png".
std::pair<std::string, std::string> key_and_end(const std::string& name) {
  const auto file = name.rfind('/') == std::string::npos ? 0 : name.rfind('/') + 1;
  const auto dot = name.find('.', file);
  if (dot == std::string::npos) return {name, ""};
  return {name.substr(0, dot), lower(name.substr(dot + 1))};
}

// Within its archive.
std::string name_in(const PictureFile& picture) {
  return picture.path.string().substr(picture.archive.string().size() + 1);
}

bool is_hidden_name(const fs::path& name) {
  return std::any_of(name.begin(), name.end(),
                     [](const fs::path& part) { return part.string().rfind('.', 0) == 0; });
}

#ifdef OOD_TAR
std::optional<std::string> label_in(const std::string& end, const std::string& text) {
  if (end == "cls") {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return std::nullopt;
    return text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
  }
  const auto json = parse_json(text);
  if (!json.is_object()) return std::nullopt;
  for (const char* name : {"label", "cls", "class"}) {
    const auto it = json.find(name);
    if (it == json.end()) continue;
    if (it->is_string()) return it->get<std::string>();
    if (it->is_number_integer()) return it->dump();
  }
  return std::nullopt;
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path), archive_(archive_read_new()) {
    constexpr std::size_t kBlock = 1 << 16;
    archive_read_support_format_tar(archive_.get());
    archive_read_support_filter_all(archive_.get());
    check(archive_read_open_filename(archive_.get(), path.c_str(), kBlock));
  }

  Members members() {
    Members found;
    std::map<std::string, PictureFile> by_name;
    for (archive_entry* entry = nullptr;;) {
      const int status = archive_read_next_header(archive_.get(), &entry);
      if (status == ARCHIVE_EOF) break;
      check(status);
      // What is compressed lies nowhere until all before it was read.
      if (archive_filter_code(archive_.get(), 0) != ARCHIVE_FILTER_NONE)
        throw DataError(path_.string() + ": is compressed; expected a plain TAR archive");
      const auto name = name_of(entry);
      if (name.empty() || is_hidden_name(name)) continue;
      if (const char* target = archive_entry_hardlink(entry)) {
        const auto it = by_name.find(normal(target));
        if (is_picture_name(name) && it != by_name.end())
          add({path_, name, it->second.begin, it->second.bytes}, name, found, by_name);
        continue;
      }
      if (archive_entry_filetype(entry) != AE_IFREG) continue;
      const auto [key, end] = key_and_end(name);
      if (end == "cls" || end == "json") {
        if (auto label = label_in(end, text())) found.labels[key] = std::move(*label);
      } else if (is_picture_name(name)) {
        if (archive_entry_sparse_count(entry) > 0)
          throw DataError(path_.string() + ": " + name +
                          " is stored with holes; expected its bytes");
        add({path_, name, static_cast<std::uint64_t>(archive_filter_bytes(archive_.get(), 0)),
             static_cast<std::uint64_t>(archive_entry_size(entry))},
            name, found, by_name);
      }
    }
    // "x.seg.png" beside "x.cls" is something of the picture "x.png".
    std::erase_if(found.pictures, [&](const PictureFile& picture) {
      const auto [key, end] = key_and_end(name_in(picture));
      return end.find('.') != std::string::npos && found.labels.count(key) > 0;
    });
    return found;
  }

 private:
  struct Free {
    void operator()(archive* a) const { archive_read_free(a); }
  };

  void check(int status) const {
    if (status == ARCHIVE_OK || status == ARCHIVE_WARN) return;
    const char* why = archive_error_string(archive_.get());
    throw DataError(path_.string() +
                    ": expected a TAR archive: " + (why == nullptr ? "it cannot be read" : why));
  }

  static std::string normal(const std::string& name) {
    return fs::path(name).lexically_normal().string();
  }

  static std::string name_of(archive_entry* entry) {
    const char* name = archive_entry_pathname(entry);
    if (name == nullptr) name = archive_entry_pathname_utf8(entry);
    return name == nullptr ? "" : normal(name);
  }

  void add(PictureFile picture, const std::string& name, Members& found,
           std::map<std::string, PictureFile>& by_name) const {
    std::error_code error;
    const auto size = fs::file_size(path_, error);
    if (error || picture.begin > size || picture.bytes > size - picture.begin)
      throw DataError(path_.string() + ": expected a TAR archive: it ends within " + name);
    by_name.insert_or_assign(name, picture);
    found.pictures.push_back(std::move(picture));
  }

  // Of the entry at hand; what is longer than any label is none.
  std::string text() const {
    constexpr std::size_t kMost = 1 << 16;
    std::string all(kMost, '\0');
    const auto n = archive_read_data(archive_.get(), all.data(), all.size());
    if (n < 0) check(ARCHIVE_FATAL);
    all.resize(static_cast<std::size_t>(n));
    return all;
  }

  const fs::path& path_;
  std::unique_ptr<archive, Free> archive_;
};
#endif

Members members_of(const fs::path& path) {
#ifdef OOD_TAR
  return Reader(path).members();
#else
  throw DataError(path.string() + ": TAR archives are not read: built without libarchive");
#endif
}

std::vector<fs::path> archives(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> all;
  std::error_code error;
  for (const auto& e : fs::directory_iterator(path, error))
    if (is_tar_name(e.path())) all.push_back(e.path());
  if (error) throw DataError(path.string() + ": cannot be read: " + error.message());
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<std::string> folders_of(const std::string& name) {
  std::vector<std::string> parts;
  for (const auto& part : fs::path(name).parent_path()) parts.push_back(part.string());
  return parts;
}

bool is_part(const std::string& name) { return PictureParts().named(name) != nullptr; }

// The first word of a file's name that is one of a part.
std::string part_in(const fs::path& archive) {
  std::string word;
  for (const char c : archive.stem().string() + "-") {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word += c;
      continue;
    }
    if (is_part(word)) return word;
    word.clear();
  }
  return "";
}

// How many folders from the front all names share, which then say nothing.
std::size_t shared_folders(const std::vector<std::vector<std::string>>& folders) {
  for (std::size_t depth = 0;; ++depth)
    for (const auto& f : folders)
      if (f.size() < depth + 2 || f[depth] != folders.front()[depth] || is_part(f[depth]))
        return depth;
}

}  // namespace

bool is_tar_name(const fs::path& path) { return lower(path.extension().string()) == ".tar"; }

bool has_tar_files(const fs::path& folder) { return !archives(folder).empty(); }

Dataset load_tar(const fs::path& path, const PictureOptions& options) {
  std::vector<LabelledPicture> pictures;
  std::vector<std::vector<std::string>> folders;  // of those that no file gives a class
  std::vector<std::size_t> unlabelled;
  for (const auto& archive : archives(path)) {
    auto members = members_of(archive);
    const auto part = part_in(archive);
    for (auto& picture : members.pictures) {
      const auto name = name_in(picture);
      const auto label = members.labels.find(key_and_end(name).first);
      if (label != members.labels.end()) {
        pictures.push_back({std::move(picture), label->second, part});
        continue;
      }
      unlabelled.push_back(pictures.size());
      folders.push_back(folders_of(name));
      pictures.push_back({std::move(picture), "", part});
    }
  }
  const auto skipped = folders.empty() ? 0 : shared_folders(folders);
  for (std::size_t i = 0; i < unlabelled.size(); ++i) {
    auto& picture = pictures[unlabelled[i]];
    std::size_t at = skipped;
    if (at < folders[i].size() && is_part(folders[i][at])) picture.part = folders[i][at++];
    if (at >= folders[i].size())
      throw DataError(picture.file.path.string() +
                      ": expected a class: the folder that it lies in, or a file .cls or .json "
                      "of its name");
    picture.label = folders[i][at];
  }
  // As the same files would be in a folder.
  std::stable_sort(pictures.begin(), pictures.end(),
                   [](const LabelledPicture& a, const LabelledPicture& b) {
                     return fs::path(name_in(a.file)) < fs::path(name_in(b.file));
                   });
  if (pictures.empty())
    throw DataError(path.string() + ": expected pictures in the TAR archive, got none");
  return load_parts(divided(std::move(pictures)), path, options);
}

std::vector<PictureFile> tar_pictures(const fs::path& path) {
  std::vector<PictureFile> all;
  for (const auto& archive : archives(path)) {
    auto members = members_of(archive);
    std::move(members.pictures.begin(), members.pictures.end(), std::back_inserter(all));
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const PictureFile& a, const PictureFile& b) { return a.path < b.path; });
  return all;
}

Samples load_tar_pictures(const fs::path& path, const PictureOptions& options) {
  auto pictures = tar_pictures(path);
  if (pictures.empty())
    throw DataError(path.string() + ": expected pictures in the TAR archive, got none");
  return load_picture_list({std::move(pictures), {}}, path, options);
}

}  // namespace ood
