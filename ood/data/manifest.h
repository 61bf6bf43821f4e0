#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Whether the file's name ends like that of a list of pictures: .csv or .jsonl.
bool is_manifest_name(const std::filesystem::path& path);

/// A list of pictures: CSV whose first line names its columns, or a JSON object a line; `path` (from
/// the list's folder on), `label` (the class's name) and, where the list divides them, `split`
/// (train, val or test, as the names of folders, see picture_folder.h); others are left out. Without
/// splits every fifth picture of a class, by path, is test data. DataError names the line.
Dataset load_manifest(const std::filesystem::path& path, const PictureOptions& options);

/// All its pictures, which need no label.
Samples load_manifest_pictures(const std::filesystem::path& path, const PictureOptions& options);

}  // namespace ood
