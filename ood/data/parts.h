#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ood {

/// "train", "val" or "test", where the name of a folder means that part of a data set (also training,
/// valid, validation, testing; in any case), else "".
std::string_view part_named(const std::string& folder);

/// The same of a file, by the first word of its name that means one, as in "images-train-000.tar".
std::string_view part_of_file(const std::filesystem::path& file);

}  // namespace ood
