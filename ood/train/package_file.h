#pragma once

#include "ood/models/network_file.h"

namespace ood {

/// Machine code of a network of the user's own stays a file beside the model, by this name: one
/// that only holds numbers runs nothing.
inline constexpr const char* kPackageFile = "network.pt2";

/// Copies a package, whose CRC-32 is `checksum`, beside the model, where it is not there already.
/// DataError where it has another one by now.
void keep_package(const NetworkFile& package, const std::string& checksum,
                  const std::filesystem::path& model);

/// That of a model; DataError where there is none or another one.
NetworkFile package_beside(const std::filesystem::path& model, const std::string& checksum);

}  // namespace ood
