#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ood {

/// The samples of one score: how many are ID, how many OOD, and of the ID ones how many are classified
/// right.
struct ScoreGroup {
  double score;
  std::int64_t id = 0, ood = 0, right = 0;
};

/// The distinct scores, ascending. `correct`: of each ID sample, or empty. std::invalid_argument where
/// either kind has no samples, and for NaN.
std::vector<ScoreGroup> score_groups(std::span<const double> id, std::span<const double> ood,
                                     std::span<const std::uint8_t> correct = {});

/// The place of a score that is among them.
std::size_t group_of(const std::vector<ScoreGroup>& groups, double score);

}  // namespace ood
