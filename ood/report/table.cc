#include <algorithm>
#include <optional>
#include <sstream>

#include "ood/report/report.h"
#include "ood/report/svg.h"

namespace ood::report {

std::string table(const Results& results) {
  std::vector<std::vector<std::string>> rows = {{"objective", "score", "OOD set", "accuracy",
                                                 "AUROC", "own", "AUPR-in", "AUPR-out", "FPR95",
                                                 "rejected", "of ID"}};
  const auto fixed = [](double v) { return report::fixed(v, 4); };
  const auto share = [&](const std::optional<double>& v, const char* none) {
    return v ? fixed(*v) : std::string(none);
  };
  const auto add = [&](const ObjectiveResults& o, const std::string& set, double auroc,
                       const Detection& found, const Detection& of_own) {
    rows.push_back({o.objective, o.score, set, "", fixed(auroc), fixed(of_own.auroc),
                    fixed(found.aupr_in), fixed(found.aupr_out), fixed(found.fpr95), "", ""});
  };
  bool over_seeds = false, any_threshold = false;
  for (const auto& o : results.objectives)
    for (const auto& [set, found] : o.ood) {
      over_seeds = over_seeds || !o.over_seeds.empty();
      any_threshold = any_threshold || found.rejected;
      add(o, set, o.auroc(set), found.detection, o.scores.at(o.own_score).at(set));
      rows.back()[3] = share(o.accuracy, "-");
      rows.back()[9] = share(found.rejected, "");
      rows.back()[10] = share(o.test_rejected, "");
    }
  for (const auto& o : results.objectives)
    if (!o.groups.empty())
      for (const auto& [group, mean] : o.groups.at(o.score))
        add(o, group + ", mean", o.group_auroc(group), mean, o.groups.at(o.own_score).at(group));
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
  if (over_seeds) out << "AUROC: means over seeds; all other figures are of the first\n";
  if (any_threshold)
    out << "rejected: share of the OOD inputs, of ID: of the test's known ones, by the run's "
           "threshold\n";
  for (const auto& o : results.objectives)
    for (const auto& [set, over] : o.over_seeds) {
      out << o.objective << ", " << set << ", AUROC over " << over.runs.size()
          << " seeds: " << fixed(over.mean) << (over.runs.size() < 2 ? "" : " +- " + fixed(over.sd))
          << " (";
      for (std::size_t i = 0; i < over.runs.size(); ++i)
        out << (i > 0 ? " " : "") << fixed(over.runs[i]);
      out << ")\n";
    }
  for (const auto& o : results.objectives) {
    for (const auto& sign : o.failure_signs)
      out << o.objective << " did not learn: " << sign << "\n";
    for (const auto& [set, unused] : o.ood)
      if (o.auroc(set) < 0.5)
        out << o.objective << ", " << set
            << ": AUROC below 0.5, the score ranks OOD inputs as more familiar "
            << "than the known classes\n";
    if (o.ood.empty()) {
      out << o.objective << ": accuracy " << share(o.accuracy, "-") << ", ";
      if (o.test_rejected)
        out << fixed(*o.test_rejected) << " of the test inputs rejected by the threshold, ";
      out << "no OOD samples were tested\n";
    }
  }
  return out.str();
}

}  // namespace ood::report
