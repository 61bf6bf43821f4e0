#include "ood/metrics/score_groups.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace ood {

std::vector<ScoreGroup> score_groups(std::span<const double> id, std::span<const double> ood,
                                     std::span<const std::uint8_t> correct) {
  if (id.empty() || ood.empty())
    throw std::invalid_argument("expected scores of ID and of OOD samples, got none of " +
                                std::string(id.empty() ? "ID" : "OOD"));
  struct Sample {
    double score;
    bool ood, right;
  };
  std::vector<Sample> all;
  all.reserve(id.size() + ood.size());
  for (std::size_t i = 0; i < id.size(); ++i)
    all.push_back({id[i], false, !correct.empty() && correct[i] != 0});
  for (const double s : ood) all.push_back({s, true, false});
  for (const Sample& s : all)
    if (std::isnan(s.score)) throw std::invalid_argument("expected numbers as scores, got NaN");
  std::ranges::sort(all, {}, &Sample::score);
  std::vector<ScoreGroup> out;
  for (const Sample& s : all) {
    if (out.empty() || out.back().score != s.score) out.push_back({s.score});
    ++(s.ood ? out.back().ood : out.back().id);
    out.back().right += s.right;
  }
  return out;
}

std::size_t group_of(const std::vector<ScoreGroup>& groups, double score) {
  const auto at = std::ranges::lower_bound(groups, score, {}, &ScoreGroup::score);
  return static_cast<std::size_t>(at - groups.begin());
}

}  // namespace ood
