#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Whether a folder holds pictures, directly or in folders below it.
bool has_pictures(const std::filesystem::path& folder);

/// A folder of pictures, class = sub-folder: FOLDER/CLASS/*.png, or FOLDER/train/CLASS/* with
/// FOLDER/test/CLASS/* (also val, valid, validation). Without test folder every fifth picture of a
/// class is test data. Classes are numbered in the order of their names.
Dataset load_picture_folder(const std::filesystem::path& folder, const PictureOptions& options);

/// The files with a picture's name at and below a folder, sorted.
std::vector<std::filesystem::path> pictures_below(const std::filesystem::path& folder);

/// All pictures at and below a folder, without labels.
Samples load_pictures(const std::filesystem::path& folder, const PictureOptions& options);

}  // namespace ood
