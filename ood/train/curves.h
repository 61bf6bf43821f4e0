#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "ood/train/results.h"

namespace ood {

/// Loss and terms by step, of the lines of metrics.jsonl, thinned to means over equal stretches for
/// the report.
ByName<TrainingCurve> training_curves(const std::vector<nlohmann::ordered_json>& lines);

}  // namespace ood
