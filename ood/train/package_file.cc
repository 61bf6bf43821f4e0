#include "ood/train/package_file.h"

#include "ood/data/checksum.h"
#include "ood/data/files.h"
#include "ood/errors.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

bool is_that_of(const fs::path& file, const std::string& checksum) {
  std::error_code none;
  return fs::is_regular_file(file, none) && checksum_of(file) == checksum;
}

}  // namespace

void keep_package(const NetworkFile& package, const std::string& checksum, const fs::path& model) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 36;
  const auto kept = model.parent_path() / kPackageFile;
  if (is_that_of(kept, checksum)) return;
  const auto content = read_text(package.path, kLargest);
  Checksum sum;
  sum.add(content.data(), content.size());
  if (sum.text() != checksum)
    throw DataError(package.path.string() + ": has changed since it was looked at");
  write_file(kept, content);
}

NetworkFile package_beside(const fs::path& model, const std::string& checksum) {
  const auto path = model.parent_path() / kPackageFile;
  std::error_code none;
  if (!fs::exists(path, none))
    throw DataError(model.string() + ": expected the machine code of its network beside it, " +
                    kPackageFile + ", found none");
  if (!is_that_of(path, checksum))
    throw DataError(path.string() + ": damaged, or another network than that of " +
                    model.filename().string());
  return {kPackageNetwork, "", path};
}

}  // namespace ood
