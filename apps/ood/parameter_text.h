#pragma once

#include <string>
#include <vector>

#include "ood/registry/registry.h"

namespace ood::app {

/// A table of parameters as lines of `ood objectives` and `ood scores`: flags begin with `prefix`.
std::string parameter_lines(const std::string& prefix, const std::vector<ParameterEntry>& table);

/// The same for their documentation; empty where there are none.
std::string parameter_markdown(const std::vector<ParameterEntry>& table);

}  // namespace ood::app
