#pragma once

#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// How the values of rows become a loss.
enum class Reduction {
  kNone,  ///< shape of the target, 0 where a row takes no part
  kMean,  ///< as the paper averages, or as a `Balance` says
  kSum,   ///< sum of kNone
};

/// "none", "mean", "sum" and "default", "per_population", "whole_batch", and back; another text is
/// a c10::ValueError that begins with `who`.
std::string_view name(Reduction reduction);
std::string_view name(Balance balance);
Reduction parse_reduction(std::string_view text, std::string_view who);
Balance parse_balance(std::string_view text, std::string_view who);

}  // namespace ood
