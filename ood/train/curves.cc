#include "ood/train/curves.h"

#include <nlohmann/json.hpp>

namespace ood {

using json = nlohmann::ordered_json;

ByName<TrainingCurve> training_curves(const std::vector<json>& lines) {
  constexpr std::size_t kPoints = 200;
  ByName<std::vector<double>> series;
  for (const json& line : lines) {
    if (!line.contains("step")) continue;
    for (const auto& [name, value] : line.items()) {
      if (name == "step" || name == "epoch" || name == "lr" || !value.is_number()) continue;
      series[name].push_back(value.get<double>());
    }
  }
  ByName<TrainingCurve> curves;
  for (const auto& [name, values] : series) {
    const std::size_t points = std::min(values.size(), kPoints);
    auto& curve = curves[name];
    for (std::size_t p = 0; p < points; ++p) {
      const std::size_t begin = p * values.size() / points, end = (p + 1) * values.size() / points;
      double sum = 0;
      for (std::size_t i = begin; i < end; ++i) sum += values[i];
      curve.emplace_back((begin + end + 1) / 2, sum / static_cast<double>(end - begin));
    }
  }
  return curves;
}

}  // namespace ood
