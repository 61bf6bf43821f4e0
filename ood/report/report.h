#pragma once

#include <string>

#include "ood/train/results.h"

namespace ood::report {

/// A self-contained HTML page (inline style and SVG, no script, no network) of the results.
std::string html(const Results& results);

/// The comparison as lines of text, for the terminal.
std::string table(const Results& results);

}  // namespace ood::report
