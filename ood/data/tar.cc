#include "ood/data/tar.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "ood/data/files.h"
#include "ood/data/parts.h"
#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
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

bool is_part(const std::string& folder) { return !part_named(folder).empty(); }

bool is_in_hidden(const fs::path& name) { return std::any_of(name.begin(), name.end(), is_hidden); }

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
    archive* a = archive_.get();
    archive_read_support_format_tar(a);
    archive_read_support_format_empty(a);
    // To tell what is compressed; of others the library would start programs.
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    check(archive_read_open_filename(a, path.c_str(), kBlock));
    std::error_code error;
    const auto size = fs::file_size(path, error);
    size_ = error ? 0 : size;
  }

  Members members() {
    Members found;
    for (archive_entry* entry = nullptr;;) {
      const int status = archive_read_next_header(archive_.get(), &entry);
      if (status == ARCHIVE_EOF) break;
      check(status);
      // What is compressed lies nowhere until all before it was read.
      if (archive_filter_code(archive_.get(), 0) != ARCHIVE_FILTER_NONE)
        throw DataError(path_.string() + ": is compressed; expected a plain TAR archive");
      take(entry, found);
    }
    follow_links();
    for (const auto& [name, stretch] : stretches_)
      if (is_picture_name(name) && !is_in_hidden(name) && !is_beside_a_picture(name))
        found.pictures.emplace_back(path_, name, stretch.begin, stretch.bytes);
    return found;
  }

 private:
  struct Free {
    void operator()(archive* a) const { archive_read_free(a); }
  };
  struct Stretch {
    std::uint64_t begin, bytes;
  };

  void check(int status) const {
    if (status == ARCHIVE_OK || status == ARCHIVE_WARN) return;
    const char* why = archive_error_string(archive_.get());
    throw DataError(path_.string() +
                    ": expected a TAR archive: " + (why == nullptr ? "it cannot be read" : why));
  }

  // Below the archive, whatever the name says: without a root, and without "..".
  static std::string normal(const fs::path& name) {
    fs::path below;
    for (const auto& part : name.relative_path().lexically_normal())
      if (part != ".." && part != ".") below /= part;
    return below.string();
  }

  static std::string text_of(const char* local, const char* utf8) {
    return local != nullptr ? local : utf8 != nullptr ? utf8 : "";
  }

  // Of members of one name the last is what unpacking leaves.
  void take(archive_entry* entry, Members& found) {
    const auto name =
        normal(text_of(archive_entry_pathname(entry), archive_entry_pathname_utf8(entry)));
    if (name.empty()) return;
    if (const auto hard =
            text_of(archive_entry_hardlink(entry), archive_entry_hardlink_utf8(entry));
        !hard.empty()) {
      links_[name] = normal(hard);
      return;
    }
    if (archive_entry_filetype(entry) == AE_IFLNK) {
      const auto soft = text_of(archive_entry_symlink(entry), archive_entry_symlink_utf8(entry));
      links_[name] = normal(fs::path(name).parent_path() / soft);
    }
    if (archive_entry_filetype(entry) != AE_IFREG) return;
    const Stretch stretch{static_cast<std::uint64_t>(archive_filter_bytes(archive_.get(), 0)),
                          static_cast<std::uint64_t>(archive_entry_size(entry))};
    const auto [key, end] = key_and_end(name);
    if ((end == "cls" || end == "json") && !is_in_hidden(name)) {
      if (auto label = label_in(end, text(name, stretch.bytes)))
        found.labels[key] = std::move(*label);
    } else if (is_picture_name(name) && archive_entry_sparse_count(entry) > 0) {
      throw DataError(path_.string() + ": " + name + " is stored with holes; expected its bytes");
    }
    if (stretch.begin > size_ || stretch.bytes > size_ - stretch.begin)
      throw DataError(path_.string() + ": expected a TAR archive: it ends within " + name);
    links_.erase(name);
    stretches_.insert_or_assign(name, stretch);
  }

  void follow_links() {
    std::int64_t lost = 0;
    // A link may lead to one that stands behind it.
    constexpr int kMostHops = 40;  // as Linux has it
    for (const auto& [name, target] : links_) {
      auto it = stretches_.find(target);
      auto at = links_.find(target);
      for (int hop = 0; it == stretches_.end() && at != links_.end() && hop < kMostHops; ++hop) {
        it = stretches_.find(at->second);
        at = links_.find(at->second);
      }
      if (it != stretches_.end())
        stretches_.insert_or_assign(name, it->second);
      else
        lost += is_picture_name(name);
    }
    if (lost > 0)
      listener().warn(path_.string() + ": " + std::to_string(lost) +
                      " pictures are links to what the archive does not hold, and are left out");
  }

  // "x.seg.png" beside "x.png" is something of that picture.
  bool is_beside_a_picture(const std::string& name) const {
    const auto [key, end] = key_and_end(name);
    if (end.find('.') == std::string::npos) return false;
    for (auto it = stretches_.lower_bound(key + "."); it != stretches_.end(); ++it) {
      const auto [other, others_end] = key_and_end(it->first);
      if (other != key) break;
      if (others_end.find('.') == std::string::npos && is_picture_name(it->first)) return true;
    }
    return false;
  }

  // Of the entry at hand.
  std::string text(const std::string& name, std::uint64_t bytes) const {
    constexpr std::uint64_t kMost = 1 << 22;
    if (bytes > kMost)
      throw DataError(path_.string() + ": " + name + ": " + std::to_string(bytes) +
                      " bytes; expected a label in at most " + std::to_string(kMost));
    std::string all(bytes, '\0');
    const auto n = archive_read_data(archive_.get(), all.data(), all.size());
    if (n < 0) check(ARCHIVE_FATAL);
    all.resize(static_cast<std::size_t>(n));
    return all;
  }

  const fs::path& path_;
  std::unique_ptr<archive, Free> archive_;
  std::uint64_t size_ = 0;
  std::map<std::string, Stretch> stretches_;
  std::map<std::string, std::string> links_;  // their targets
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
  return entries_of(path, [](const auto& e) {
    std::error_code unknown;  // of a link that leads nowhere
    return is_tar_name(e.path()) && e.is_regular_file(unknown);
  });
}

std::vector<std::string> folders_of(const std::string& name) {
  std::vector<std::string> parts;
  for (const auto& part : fs::path(name).parent_path()) parts.push_back(part.string());
  return parts;
}

// How many folders from the front all pictures share, which then say nothing.
std::size_t shared_folders(const std::vector<LabelledPicture>& pictures,
                           const std::vector<std::vector<std::string>>& folders) {
  for (std::size_t depth = 0;; ++depth) {
    const LabelledPicture* beside = nullptr;  // others' folders
    std::size_t deeper = 0;
    for (std::size_t i = 0; i < folders.size(); ++i) {
      const auto& f = folders[i];
      if (f.size() <= depth || f[depth] != folders.front()[depth] || is_part(f[depth]))
        return depth;
      if (f.size() == depth + 1)
        beside = &pictures[i];
      else
        ++deeper;
    }
    if (deeper == 0) return depth;
    if (beside != nullptr)
      throw DataError(beside->file.path.string() + ": lies beside the folders of " +
                      std::to_string(deeper) +
                      " others; expected every picture in the folder of its class");
  }
}

}  // namespace

bool is_tar_name(const fs::path& path) { return lower(path.extension().string()) == ".tar"; }

bool has_tar_files(const fs::path& folder) { return !archives(folder).empty(); }

std::vector<LabelledPicture> labelled_tar(const fs::path& path) {
  std::vector<LabelledPicture> pictures, by_folder;
  std::vector<std::vector<std::string>> folders;  // of the latter
  const auto all = archives(path);
  for (const auto& archive : all) {
    auto members = members_of(archive);
    const std::string part(all.size() > 1 ? part_of_file(archive) : "");
    for (auto& picture : members.pictures) {
      const auto name = name_in(picture);
      auto lies_in = folders_of(name);
      const auto label = members.labels.find(key_and_end(name).first);
      if (label == members.labels.end()) {
        by_folder.push_back({std::move(picture), "", part});
        folders.push_back(std::move(lies_in));
        continue;
      }
      const auto own = std::find_if(lies_in.begin(), lies_in.end(), is_part);
      pictures.push_back({std::move(picture), label->second, own == lies_in.end() ? part : *own});
    }
  }
  const auto skipped = folders.empty() ? 0 : shared_folders(by_folder, folders);
  for (std::size_t i = 0; i < by_folder.size(); ++i) {
    auto& picture = by_folder[i];
    std::size_t at = skipped;
    if (at < folders[i].size() && is_part(folders[i][at])) picture.part = folders[i][at++];
    if (at >= folders[i].size())
      throw DataError(picture.file.path.string() +
                      ": expected a class: the folder that it lies in, or a file .cls or .json "
                      "of its name");
    picture.label = folders[i][at];
    pictures.push_back(std::move(picture));
  }
  // As the same files would be in a folder.
  std::stable_sort(pictures.begin(), pictures.end(),
                   [](const LabelledPicture& a, const LabelledPicture& b) {
                     return fs::path(name_in(a.file)) < fs::path(name_in(b.file));
                   });
  if (pictures.empty())
    throw DataError(path.string() + ": expected pictures in the TAR archive, got none");
  return pictures;
}

Dataset load_tar(const fs::path& path, const PictureOptions& options) {
  return load_labelled(labelled_tar(path), path, options);
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

}  // namespace ood
