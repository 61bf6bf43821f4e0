#include "ood/data/picture_files.h"

#include <algorithm>
#include <limits>

#include "ood/data/files.h"
#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

// The ending of a picture in a format that is not read, else "".
std::string other_format(const fs::path& path) {
  std::string end = lower(path.extension().string());
  for (const char* known : {".gif", ".bmp", ".heic", ".avif", ".ppm"})
    if (end == known) return end;
  return "";
}

// `above`: the folders that this one lies in, as they are without links. Ends once `most` pictures
// are found.
void walk(const fs::path& folder, std::vector<fs::path> above, std::size_t most,
          PictureFiles& found) {
  std::error_code error;
  const auto real = fs::canonical(folder, error);
  auto entries = error ? fs::directory_iterator() : fs::directory_iterator(folder, error);
  if (error) {
    found.unreadable.push_back(folder.string() + ": " + error.message());
    return;
  }
  if (std::find(above.begin(), above.end(), real) != above.end()) {
    found.unreadable.push_back(folder.string() + ": a link to a folder that it lies in");
    return;
  }
  above.push_back(real);
  for (; entries != fs::directory_iterator() && found.files.size() < most;
       entries.increment(error)) {
    const auto& path = entries->path();
    if (is_hidden(path)) continue;
    std::error_code unknown;
    const auto status = entries->status(unknown);
    if (fs::is_directory(status)) {
      walk(path, above, most, found);
    } else if (is_picture_name(path)) {
      // A link that leads nowhere is a picture that cannot be opened; a device is none.
      if (fs::is_regular_file(status) || entries->is_symlink()) found.files.emplace_back(path);
    } else if (unknown && unknown != std::errc::no_such_file_or_directory) {
      found.unreadable.push_back(path.string() + ": " + unknown.message());
    } else if (const auto end = other_format(path); !end.empty()) {
      found.other[end].push_back(path);
    }
  }
  if (error) found.unreadable.push_back(folder.string() + ": " + error.message());
}

}  // namespace

void PictureFiles::add(PictureFiles more) {
  files.insert(files.end(), more.files.begin(), more.files.end());
  unreadable.insert(unreadable.end(), more.unreadable.begin(), more.unreadable.end());
  for (const auto& [end, paths] : more.other)
    other[end].insert(other[end].end(), paths.begin(), paths.end());
}

PictureFiles pictures_below(const fs::path& folder) {
  PictureFiles found;
  walk(folder, {}, std::numeric_limits<std::size_t>::max(), found);
  std::sort(found.files.begin(), found.files.end(),
            [](const PictureFile& a, const PictureFile& b) { return a.path < b.path; });
  std::sort(found.unreadable.begin(), found.unreadable.end());
  for (auto& [unused, paths] : found.other) std::sort(paths.begin(), paths.end());
  return found;
}

bool has_pictures(const fs::path& folder) {
  PictureFiles found;
  walk(folder, {}, 1, found);
  return !found.files.empty();
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  return entries_of(folder, [](const auto& e) {
    std::error_code unknown;
    const bool is_folder = e.is_directory(unknown);
    // A link that leads nowhere is no folder; one that leads round in circles may have been meant.
    if (unknown && unknown != std::errc::no_such_file_or_directory)
      throw DataError(e.path().string() + ": cannot be read: " + unknown.message());
    return is_folder;
  });
}

void check_picture_files(const PictureFiles& files, const fs::path& folder, bool strict) {
  if (!files.unreadable.empty())
    throw DataError(files.unreadable.front() + "; expected folders that can be read");
  if (files.other.empty()) return;
  if (strict)
    throw DataError(files.other.begin()->second.front().string() + ": expected " + kFormatsRead +
                    ", got another format (`strict` refuses it)");
  std::string list;
  for (const auto& [end, paths] : files.other)
    list += (list.empty() ? "" : ", ") + std::to_string(paths.size()) + " " + end;
  listener().warn(folder.string() + ": left out, for their format is not read: " + list +
                  "; expected " + kFormatsRead);
}

}  // namespace ood
