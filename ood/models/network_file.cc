#include "ood/models/network_file.h"

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/models/package_network.h"
#include "ood/models/script_network.h"

namespace ood {

std::string network_file_kind(const std::string& model) {
  return model.ends_with(".pt2") ? kPackageNetwork : model.ends_with(".pt") ? kScriptNetwork : "";
}

NetworkFile open_network_file(const std::filesystem::path& path) {
  constexpr std::uint64_t kLargest = std::uint64_t{4} << 30;
  if (network_file_kind(path.string()) == kPackageNetwork) {
    std::error_code none;
    if (!std::filesystem::is_regular_file(path, none))
      throw UsageError("`model`: expected a file, found none: " + path.string());
    return {kPackageNetwork, "", path};
  }
  try {
    return {kScriptNetwork, read_text(path, kLargest), {}};
  } catch (const DataError& e) {
    throw UsageError("`model`: " + std::string(e.what()));
  }
}

NetworkNotes notes_of(const NetworkFile& file) {
  return file.kind == kPackageNetwork ? package_notes(file.path) : script_notes(file.content);
}

std::shared_ptr<Classifier> make_network(const NetworkFile& file, const NetworkShape& shape,
                                         bool trains) {
  return file.kind == kPackageNetwork ? make_package_network(file.path, shape)
                                      : make_script_network(file.content, shape, trains);
}

}  // namespace ood
