#pragma once

#include <filesystem>
#include <vector>

#include "ood/data/dataset.h"
#include "ood/data/picture_folder.h"

namespace ood {

/// Whether the file's name ends like that of a TAR archive: .tar.
bool is_tar_name(const std::filesystem::path& path);

/// Whether a folder holds some.
bool has_tar_files(const std::filesystem::path& folder);

/// Pictures in a TAR archive or the archives of a folder, as WebDataset has them or as `tar` packs a
/// folder of pictures; they stay where they are. The class of a picture is what stands in NAME.cls
/// or as "label", "cls" or "class" in NAME.json beside it, else its folder. Its part is that of the
/// folder train, val or test that it lies in, else, of several archives, the first of these words
/// in the name of its archive. Links are followed within an archive. Without parts every fifth of a class is test data, by name. DataError where an archive
/// is compressed or damaged, or a picture has no class.
Dataset load_tar(const std::filesystem::path& path, const PictureOptions& options);

/// Its pictures with classes and parts, by name.
std::vector<LabelledPicture> labelled_tar(const std::filesystem::path& path);

/// All its pictures by archive and name, with or without classes.
std::vector<PictureFile> tar_pictures(const std::filesystem::path& path);

}  // namespace ood
