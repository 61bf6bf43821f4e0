#pragma once

#include <filesystem>
#include <vector>

#include "ood/data/dataset.h"
#include "ood/data/picture_file.h"

namespace ood {

struct PictureList {
  std::vector<PictureFile> files;
  std::vector<std::int64_t> labels;  ///< empty: none
};

/// The pictures of a list, without those that do not decode, which are named. They are held in
/// memory where they take no more than PictureOptions::cache; others stay files, decoded whenever they
/// are asked for, and once more to find out what they are, if no earlier reading has (see
/// picture_index.h). DataError where none decodes or their sizes differ.
Samples load_picture_list(const PictureList& list, const std::filesystem::path& folder,
                          const PictureOptions& options);

}  // namespace ood
