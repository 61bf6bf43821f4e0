#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace ood::report {

/// A self-contained HTML page (inline style and SVG, no script, no network) from what results.json
/// holds.
std::string html(const nlohmann::ordered_json& results);

/// The comparison as lines of text, for the terminal.
std::string table(const nlohmann::ordered_json& results);

}  // namespace ood::report
