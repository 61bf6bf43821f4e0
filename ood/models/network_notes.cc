#include "ood/models/network_notes.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/errors.h"

namespace ood {

NetworkNotes parse_notes(const std::string& text) {
  NetworkNotes n;
  if (text.empty()) return n;
  const UsageError damaged(std::string("`model`: what the file says of itself is damaged") +
                           kRemedy);
  const auto json = parse_json(text);
  if (!json.is_object()) throw damaged;
  try {
    n = {json.value("mean", n.mean), json.value("deviation", n.deviation),
         json.value("method", n.method)};
    for (const auto& [side, value] :
         {std::pair("channels", &n.channels), {"height", &n.height}, {"width", &n.width}})
      if (json.contains(side)) *value = whole_number(json.at(side), side);
  } catch (const nlohmann::json::exception&) {
    throw damaged;
  } catch (const DataError&) {
    throw damaged;
  }
  const auto usable = [](double d) { return std::isfinite(d) && d > 0; };
  if (n.mean.size() != n.deviation.size() ||
      !std::all_of(n.deviation.begin(), n.deviation.end(), usable) ||
      !std::all_of(n.mean.begin(), n.mean.end(), [](double m) { return std::isfinite(m); }))
    throw damaged;
  return n;
}

void check_features(const at::Tensor& features) {
  if (features.dim() != 2 || features.size(0) != kRowsTried ||
      features.scalar_type() != torch::kFloat)
    throw UsageError("`model`: expected features [N, D] of float32, got " +
                     c10::str(features.sizes()) + " for two pictures" + kRemedy);
}

}  // namespace ood
