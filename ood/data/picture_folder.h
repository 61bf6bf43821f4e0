#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ood/data/dataset.h"

namespace ood {

/// A folder of pictures, class = sub-folder: FOLDER/CLASS/*.png, or FOLDER/train/CLASS/* with
/// FOLDER/test/CLASS/* and, held out of the training, FOLDER/val/CLASS/* (or what else parts.h takes
/// for them). Without test/, val/ is the test data; without both every fifth picture of a class
/// is. Classes are numbered in the order of their names.
Dataset load_picture_folder(const std::filesystem::path& folder, const PictureOptions& options);

/// A picture of a data set that says what each is.
struct LabelledPicture {
  PictureFile file;
  std::string label;  ///< its class
  std::string part;   ///< a name of one, see parts.h; of none, "": they are not divided
};

/// Those of such a folder, by class and name; `found` gets all that lies in the folders of classes.
std::vector<LabelledPicture> labelled_folder(const std::filesystem::path& folder,
                                             PictureFiles& found);

/// Reads them, in their order: where none has a part, every fifth of a class is test data; without
/// test data those held out are that. `from` is what errors name. DataError names a picture of an
/// unknown part, or of none where others have one.
Dataset load_labelled(std::vector<LabelledPicture> pictures, const std::filesystem::path& from,
                      const PictureOptions& options);

}  // namespace ood
