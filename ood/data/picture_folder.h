#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// A folder of pictures, class = sub-folder: FOLDER/CLASS/*.png, or FOLDER/train/CLASS/* with
/// FOLDER/test/CLASS/* and, held out of the training, FOLDER/val/CLASS/* (also valid, validation;
/// in any case). Without test/, val/ is the test data; without both every fifth picture of a class
/// is. Classes are numbered in the order of their names.
Dataset load_picture_folder(const std::filesystem::path& folder, const PictureOptions& options);

/// All pictures at and below a folder, without labels.
Samples load_pictures(const std::filesystem::path& folder, const PictureOptions& options);

}  // namespace ood
