#pragma once

#include <cstdint>
#include <filesystem>
#include <type_traits>
#include <utility>

namespace ood {

/// Where the bytes of a picture lie: in a file of its own, or in one stretch of an archive.
struct PictureFile {
  /// A path, in whatever form.
  template <class Path>
  requires std::is_convertible_v<Path&&, std::filesystem::path> PictureFile(
      Path&& own)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
      : path(std::forward<Path>(own)) {}
  PictureFile(std::filesystem::path archive, const std::filesystem::path& name, std::uint64_t begin,
              std::uint64_t bytes)
      : path(archive / name), archive(std::move(archive)), begin(begin), bytes(bytes) {}

  /// The file to open.
  const std::filesystem::path& opened() const { return archive.empty() ? path : archive; }

  std::filesystem::path path;          ///< what it is called; in an archive ARCHIVE/NAME
  std::filesystem::path archive;       ///< empty: none
  std::uint64_t begin = 0, bytes = 0;  ///< in the archive
};

}  // namespace ood
