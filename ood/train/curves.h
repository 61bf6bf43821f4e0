#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace ood {

/// Loss and terms by step, of the lines of metrics.jsonl, thinned to means over equal stretches for
/// the report: {name: [[step, mean], ...]}.
nlohmann::ordered_json training_curves(const std::vector<nlohmann::ordered_json>& lines);

}  // namespace ood
