#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "ood/data/inputs.h"
#include "ood/data/picture.h"
#include "ood/data/picture_files.h"

namespace ood {

/// Pictures, uint8 [N, channels, height, width], or embeddings, float32 [N, D, 1, 1]; labels as
/// int64 [N] from 0.
struct Samples {
  Inputs inputs;
  at::Tensor labels;  ///< undefined where there are none

  std::int64_t size() const { return inputs.size(); }
  /// The samples at these positions.
  Samples select(const std::vector<std::int64_t>& positions) const;
};

/// A labelled data set with its own division into training and test data.
struct Dataset {
  std::string name;
  std::vector<std::string> class_names;
  Samples train;
  Samples test;
  Samples validation;  ///< held out by the user; undefined: nothing is

  std::int64_t classes() const { return static_cast<std::int64_t>(class_names.size()); }
};

/// Of data without a division of its own, one sample of so many in each class is test data.
inline constexpr std::int64_t kTestShare = 5;
/// Whether the sample at that place among those of its class, counted from 0, is it.
inline bool is_test_share(std::int64_t place) { return place % kTestShare == kTestShare - 1; }

/// Says so of the data in `from`.
void tell_of_test_share(const std::string& from);
/// Says that what could be held out is the test data.
void tell_val_is_test(const std::string& from);
/// Says that of a whole data set so many samples are taken; gives them back.
Inputs test_data_of(const std::string& from, const Inputs& test);

/// How pictures are read.
struct PictureOptions : PictureReading {
  bool strict = false;  ///< a picture that does not decode is an error, not left out
  /// Bytes that the decoded pictures of a set may take in memory; those of a larger set stay files.
  std::int64_t cache = kCache;
  /// What is found out of pictures held in memory is kept, too, for readings to come; see
  /// picture_index.h.
  bool indexed = false;
  /// A set that an earlier reading knows stays files, of which only those asked for are decoded.
  bool leave_known = false;
  bool as_training = false;  ///< `size` was not asked for but is that of the training; it is said

  static constexpr std::int64_t kCache = 256'000'000;

  /// The same for pictures that are looked at once, as those of tests.
  PictureOptions unindexed() const {
    PictureOptions o = *this;
    o.indexed = o.leave_known = false;
    return o;
  }
};

/// Where data of that name lie: the path itself, or that of Debian's package.
std::filesystem::path data_path(const std::string& name);

/// The last part of a path, also of one that ends in "/" or ".".
std::string name_of(const std::filesystem::path& path);

/// Says that the pictures, [C, H, W], of a set are brought to the size of the training, where they
/// have another.
void tell_of_size(const std::string& name, const at::Tensor& picture, const PictureSize& size);

/// `what` is "fashion-mnist" (Debian's package dataset-fashion-mnist), a file LIST.csv or LIST.jsonl
/// (see manifest.h), TABLE.csv (see table.h), ARRAYS.npz (see arrays.h) or PICTURES.tar (see tar.h), or a folder, whose format is recognised by looking:
///   idx       train-images*, train-labels*, and t10k-* or test-* likewise, plain or gzip
///   CIFAR     data_batch_*.bin and test_batch.bin, or train.bin and test.bin
///   arrays    train*.npy with labels in train*label*.npy, and test* likewise; or a .npy a class
///   pictures  a sub-folder of pictures a class
///   TAR       archives of pictures
Dataset load_dataset(const std::string& what, const PictureOptions& options = {});

/// Inputs of a further test set or of outliers: a file (idx, npy, a picture, a list or archive of pictures) or
/// one of the formats above: of pictures all, else the test part where there is one. Labels play no part.
Inputs load_inputs(const std::string& what, const PictureOptions& options = {});

/// The pictures of such a set as they lie there, unread; none of a set in another format.
PictureFiles pictures_of(const std::filesystem::path& path);

/// Whether a training with the data set `what` learns some of what lies at a place, or chooses by it: all
/// of the set but the pictures, or the file of arrays, that its reader takes for test data. Of the set
/// as it is now; of arrays elsewhere nothing is known.
bool learns_from(const std::string& what, const std::filesystem::path& place);

}  // namespace ood
