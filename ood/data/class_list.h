#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ood {

/// The names of a file, one a line; blanks at the end of a line and blank lines do not count. None
/// where there is no such file.
std::vector<std::string> read_class_names(const std::filesystem::path& path);

/// The classes that a text names, or why it names none.
struct ClassList {
  std::vector<std::int64_t> classes;
  std::string error;
};

/// "0,1,2", "0-3,5" or class names; "\\," is a comma in a name. A name stands above a position;
/// where names are numbers, a number or range means names alone.
ClassList class_list(const std::string& text, const std::vector<std::string>& names);

/// The same, of the option `flag`; UsageError.
std::vector<std::int64_t> parse_classes(const std::string& flag, const std::string& text,
                                        const std::vector<std::string>& names);

}  // namespace ood
