#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ood/report/report.h"

namespace ood::report {

std::string table(const nlohmann::ordered_json& results) {
  std::vector<std::vector<std::string>> rows = {{"objective", "score", "OOD set", "accuracy",
                                                 "AUROC", "own", "AUPR-in", "AUPR-out", "FPR95"}};
  const auto fixed = [](double v) {
    char text[16];
    std::snprintf(text, sizeof text, "%.4f", v);
    return std::string(text);
  };
  for (const auto& o : results.at("objectives"))
    for (const auto& [set, f] : o.at("ood").items())
      rows.push_back({o.at("objective"), o.at("score"), set,
                      o.at("accuracy").is_null() ? std::string("-") : fixed(o.at("accuracy")),
                      fixed(f.at("auroc")),
                      fixed(o.at("scores").at(o.at("own_score")).at(set).at("auroc")),
                      fixed(f.at("aupr_in")), fixed(f.at("aupr_out")), fixed(f.at("fpr95"))});
  for (const auto& o : results.at("objectives"))
    if (o.contains("groups"))
      for (const auto& [group, f] : o.at("groups").at(o.at("score")).items())
        rows.push_back({o.at("objective"), o.at("score"), group + ", mean", "",
                        fixed(f.at("auroc")),
                        fixed(o.at("groups").at(o.at("own_score")).at(group).at("auroc")),
                        fixed(f.at("aupr_in")), fixed(f.at("aupr_out")), fixed(f.at("fpr95"))});
  if (rows.size() == 1) rows.clear();
  std::vector<std::size_t> width(rows.empty() ? 0 : rows[0].size(), 0);
  for (const auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  std::ostringstream out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string pad(width[c] - row[c].size(), ' ');
      line += (c == 0 ? "" : "  ") + (c < 3 ? row[c] + pad : pad + row[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << "\n";
  }
  for (const auto& o : results.at("objectives"))
    if (o.contains("over_seeds"))
      for (const auto& [set, f] : o.at("over_seeds").items()) {
        out << o.at("objective").get<std::string>() << ", " << set << ", AUROC over "
            << f.at("runs").size() << " seeds: " << fixed(f.at("mean")) << " +- "
            << fixed(f.at("sd")) << " (";
        for (std::size_t i = 0; i < f.at("runs").size(); ++i)
          out << (i > 0 ? " " : "") << fixed(f.at("runs").at(i));
        out << ")\n";
      }
  for (const auto& o : results.at("objectives")) {
    const std::string name = o.at("objective");
    for (const auto& sign : o.at("failure_signs"))
      out << name << " did not learn: " << sign.get<std::string>() << "\n";
    for (const auto& [set, f] : o.at("ood").items())
      if (f.at("auroc").get<double>() < 0.5)
        out << name << ", " << set
            << ": AUROC below 0.5, the score ranks OOD inputs as more familiar "
            << "than the known classes\n";
    if (o.at("ood").empty())
      out << name << ": accuracy "
          << (o.at("accuracy").is_null() ? std::string("-") : fixed(o.at("accuracy")))
          << ", no OOD samples were tested\n";
  }
  return out.str();
}

}  // namespace ood::report
