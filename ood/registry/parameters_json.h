#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "ood/registry/registry.h"

namespace ood {

/// A table of parameters for the registry's JSON.
nlohmann::ordered_json parameters_json(const std::vector<ParameterEntry>& table);

}  // namespace ood
