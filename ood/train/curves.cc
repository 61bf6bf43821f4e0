#include "ood/train/curves.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ood {

using json = nlohmann::ordered_json;

json training_curves(const std::vector<json>& lines) {
  constexpr std::size_t kPoints = 200;
  std::vector<std::pair<std::string, std::vector<double>>> series;
  for (const json& line : lines) {
    if (!line.contains("step")) continue;
    for (const auto& [name, value] : line.items()) {
      if (name == "step" || name == "epoch" || name == "lr" || !value.is_number()) continue;
      auto it = std::find_if(series.begin(), series.end(),
                             [&, n = name](const auto& s) { return s.first == n; });
      if (it == series.end()) it = series.insert(series.end(), {name, {}});
      it->second.push_back(value.get<double>());
    }
  }
  json out = json::object();
  for (const auto& [name, values] : series) {
    const std::size_t points = std::min(values.size(), kPoints);
    json thinned = json::array();
    for (std::size_t p = 0; p < points; ++p) {
      const std::size_t begin = p * values.size() / points, end = (p + 1) * values.size() / points;
      double sum = 0;
      for (std::size_t i = begin; i < end; ++i) sum += values[i];
      thinned.push_back({(begin + end + 1) / 2, sum / static_cast<double>(end - begin)});
    }
    out[name] = thinned;
  }
  return out;
}

}  // namespace ood
