#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "ood/data/dataset.h"
#include "ood/data/picture_file.h"

namespace ood {

/// What is known of a picture file without decoding it again. All numbers are 64 bits wide, so that
/// an index is a table of them.
struct IndexedPicture {
  std::uint64_t path = 0;      ///< a hash of it
  std::uint64_t bytes = 0;     ///< of the file, when it was decoded
  std::uint64_t time = 0;      ///< a hash of when it was modified and changed
  std::uint64_t channels = 0;  ///< 1 or 3; 0: it does not decode
  std::uint64_t hash = 0;      ///< of its content
  std::uint64_t hash_as_colour = 0;
  std::array<std::uint64_t, 3> sums{}, squares{};  ///< of its pixels, by channel
};

/// The pictures of a folder as they were read before, kept on disk under $XDG_CACHE_HOME or ~/.cache:
/// a file that has changed since, or that is damaged, is as one that was never read.
class PictureIndex {
 public:
  PictureIndex(const std::filesystem::path& folder, const PictureOptions& options);

  /// The entry of a file that is now as it was; of `file` path, size and time are looked at.
  std::optional<IndexedPicture> find(const IndexedPicture& file) const;

  /// Adds entries, drops those without channels and writes all; where that cannot be, the next
  /// reading decodes the pictures again.
  void add(const std::vector<IndexedPicture>& entries);

 private:
  std::filesystem::path file_;
  std::vector<IndexedPicture> entries_;  // by path
};

/// Path, size and time of a picture, the rest empty.
IndexedPicture unread(const PictureFile& file);

}  // namespace ood
