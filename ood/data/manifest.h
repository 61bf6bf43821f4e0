#pragma once

#include <filesystem>
#include <vector>

#include "ood/data/dataset.h"
#include "ood/data/picture_folder.h"

namespace ood {

/// Whether the file's name ends like that of a list of pictures: .csv or .jsonl.
bool is_manifest_name(const std::filesystem::path& path);

/// A list of pictures: CSV whose first line names its columns, or a JSON object a line; `path` (from
/// the list's folder on), `label` (the class's name) and, where the list divides them, `split`
/// (train, val or test, see parts.h); others are left out. Without
/// test pictures those of val are the test data, without splits every fifth of a class, by path.
/// DataError names the line.
Dataset load_manifest(const std::filesystem::path& path, const PictureOptions& options);

/// Its pictures with classes and parts, by path.
std::vector<LabelledPicture> labelled_manifest(const std::filesystem::path& path);

/// Its pictures, which need no label, in its order.
std::vector<PictureFile> manifest_pictures(const std::filesystem::path& path);

}  // namespace ood
