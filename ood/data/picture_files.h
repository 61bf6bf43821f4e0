#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ood/data/picture_file.h"

namespace ood {

/// The pictures at and below a folder. Links are followed, what is hidden (".x", "._x.jpg") is not
/// data.
struct PictureFiles {
  std::vector<PictureFile> files;       ///< sorted by path
  std::vector<std::string> unreadable;  ///< "FOLDER: why", of folders and links, sorted
  /// Of formats that are not read, by ending, sorted.
  std::map<std::string, std::vector<std::filesystem::path>> other;

  void add(PictureFiles more);
};

PictureFiles pictures_below(const std::filesystem::path& folder);

/// Whether there is one, without a look at the rest.
bool has_pictures(const std::filesystem::path& folder);

/// The sub-folders of a folder, links to folders among them, sorted by name; hidden ones are left
/// out. DataError where the folder cannot be read.
std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder);

inline constexpr const char* kFormatsRead = "PNG, JPEG, WebP or TIFF";

/// DataError where something cannot be read. Says how many files are pictures of a format that is
/// not read, or refuses them.
void check_picture_files(const PictureFiles& files, const std::filesystem::path& folder,
                         bool strict);

}  // namespace ood
