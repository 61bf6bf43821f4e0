#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ood/models/classifier.h"

namespace ood {

/// What the description of a model says of a network that is not one of ours: the kind of its file.
inline constexpr const char* kScriptNetwork = "torchscript";   ///< FILE.pt
inline constexpr const char* kPackageNetwork = "aotinductor";  ///< FILE.pt2

/// Of the path of a network of the user's own, as `python -m ood.to_program` makes them: FILE.pt is a
/// script, FILE.pt2 a package of machine code, which gives features and learns nothing. "": it is none.
std::string network_file_kind(const std::string& model);
/// Whether a description's network is of one of these kinds.
inline bool is_own_network(const std::string& model) {
  return model == kScriptNetwork || model == kPackageNetwork;
}
inline bool is_network_file(const std::string& model) { return !network_file_kind(model).empty(); }

/// A network of the user's own.
struct NetworkFile {
  std::string kind;            ///< kScriptNetwork or kPackageNetwork; "": there is none
  std::string content;         ///< of a script
  std::filesystem::path path;  ///< of a package, which is loaded from its file

  explicit operator bool() const { return !kind.empty(); }
};
/// UsageError where there is none.
NetworkFile open_network_file(const std::filesystem::path& path);

/// What such a file says of itself.
struct NetworkNotes {
  std::vector<double> mean, deviation;  ///< to normalise inputs by, a channel; empty: nothing
  std::string method;  ///< of a script, gives the features; "": `features`, or else the call
  std::int64_t channels = 0, height = 0, width = 0;  ///< of the inputs that a package takes
};
/// UsageError where that is damaged.
NetworkNotes notes_of(const NetworkFile& file);

/// Its features and a last layer of ours. UsageError where it cannot be used, or, where `trains`,
/// cannot be trained.
std::shared_ptr<Classifier> make_network(const NetworkFile& file, const NetworkShape& shape,
                                         bool trains);

}  // namespace ood
