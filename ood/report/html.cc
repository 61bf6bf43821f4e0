#include <c10/util/StringUtil.h>

#include <algorithm>
#include <sstream>

#include "ood/registry/text.h"
#include "ood/report/report.h"
#include "ood/report/svg.h"

namespace ood::report {
namespace {

constexpr const char* kStyle = R"css(
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f6f7f9;color:#1b1f24;font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1160px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px}
h2{font-size:1.15rem;margin:36px 0 8px}
h3{font-size:1rem;margin:18px 0 6px}
p{max-width:76ch;margin:8px 0}
.muted{color:#4b5563}
.card{background:#fff;border:1px solid #d8dde3;border-radius:8px;padding:12px;min-width:0}
.grid{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr))}
.scroll{overflow-x:auto;padding:0}
.warn{border-left:4px solid #c2410c;padding-left:12px}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:7px 5px;text-align:right;border-bottom:1px solid #e5e8ec;white-space:nowrap}
th{font-weight:600;color:#374151;border-bottom:2px solid #b9c0c9}
td.l,th.l{text-align:left}
td.l{white-space:normal}
td.best{font-weight:700}
.bad{color:#b91c1c;font-weight:600}
tr:last-child td{border-bottom:0}
svg{display:block;width:100%;height:auto;max-width:560px}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#374151}
svg .title{font-weight:600;font-size:13px;fill:#1b1f24}
svg .grid{stroke:#e5e8ec;stroke-width:1}
svg .axis{stroke:#6b7280;stroke-width:1}
svg .chance{stroke:#6b7280;stroke-width:1;stroke-dasharray:4 3}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:.85rem;margin:6px 0 0}
.legend .key{display:inline-block;width:20px;height:12px;margin-right:5px;vertical-align:-1px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:5px;vertical-align:-1px}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem;margin:8px 0 0}
summary{cursor:pointer;font-weight:600}
@media(max-width:640px){
.stack thead{display:none}
.stack tr{display:grid;grid-template-columns:1fr 1fr;padding:8px 4px;border-bottom:2px solid #d8dde3}
.stack td{border:0;padding:2px 6px;text-align:left;white-space:normal;overflow-wrap:anywhere}
.stack td::before{content:attr(data-name) " ";color:#4b5563;font-weight:400}
.stack td:first-child{grid-column:1/3;font-weight:700}
.stack td:first-child::before{content:""}
}
)css";

std::string join(const std::vector<std::string>& names) { return c10::Join(", ", names); }

struct Key {
  std::string name, color, dash{};
};

std::string legend(const std::vector<Key>& items) {
  std::string out = "<div class=\"legend\">";
  for (const auto& [name, color, dash] : items) {
    out += "<span>";
    out += dash.empty()
               ? "<i style=\"background:" + color + "\"></i>"
               : "<svg class=\"key\" viewBox=\"0 0 20 12\"><path d=\"M0 6H20\" stroke=\"" + color +
                     "\" stroke-width=\"2.5\" stroke-dasharray=\"" + dash + "\"/></svg>";
    out += escape(name) + "</span>";
  }
  return out + "</div>";
}

// Keys of several things in different colours and dashes.
std::vector<Key> keys(const std::vector<std::string>& names) {
  std::vector<Key> all;
  for (std::size_t i = 0; i < names.size(); ++i) all.push_back({names[i], color(i), dash(i)});
  return all;
}

// Of a single run there is no deviation.
std::string deviation(const OverSeeds& over, const char* sign = "") {
  return over.runs.size() < 2 ? "&#8211;" : sign + fixed(over.sd, 3);
}

// Whether an objective is not shown to be behind the best: by the difference on the same samples
// where that is known, else by whether the intervals meet, of several seeds mean and deviation.
bool not_worse(const ObjectiveResults& o, const std::string& set, const ObjectiveResults& best) {
  const auto& found = o.ood.at(set);
  if (!o.over_seeds.empty()) {
    const auto &own = o.over_seeds.at(set), &first = best.over_seeds.at(set);
    return own.mean + own.sd >= first.mean - first.sd;
  }
  return found.behind_best ? found.behind_best->low <= 0
                           : found.auroc.high >= best.ood.at(set).auroc.low;
}

void introduction(std::ostream& out, const Results& r) {
  const auto& objectives = r.objectives;
  out << "<h1>" << (objectives.size() > 1 ? "Training objectives compared" : "Training objective")
      << ": " << escape(r.name) << "</h1>";
  out << "<p class=\"muted\">The network learns " << (r.known.size() == 1 ? "" : "to tell ")
      << r.known.size() << (r.known.size() == 1 ? " known class (" : " known classes apart (")
      << escape(join(r.known)) << "; " << r.train_samples
      << " training samples). The test asks whether a score computed from its output tells inputs "
         "of other kinds from inputs of the known classes.</p>";
  const bool outliers = !r.outliers.empty(), unknown = !r.unknown.empty();
  if (outliers && unknown && r.outliers_are_classes)
    out << "<p>The training outliers (" << escape(join(r.outliers)) << ") and the unknown classes ("
        << escape(join(r.unknown))
        << ") are classes of the same data set. Objectives that learn from outliers profit where "
           "the two resemble each other; with inputs that differ more from the outliers expect "
           "lower figures, and test on your own with <code>--ood-data NAME=PATH</code>.</p>";
  else if (outliers)
    out << "<p>Outliers in training: " << escape(join(r.outliers)) << ".</p>";
  else
    out << "<p>No outliers were used in training.</p>";
}

// "joint (mds_pp, rmds, own)"
std::string score_text(const ObjectiveResults& o) {
  return o.members.empty() ? o.score : o.score + " (" + join(o.members) + ")";
}

void comparison(std::ostream& out, const Results& r) {
  if (r.sets().empty()) {
    out << "<h2>No OOD samples were tested</h2><p class=\"warn\">Nothing says how well OOD inputs "
           "are detected; name some with <code>--unknown CLASSES</code> or <code>--ood-data "
           "NAME=PATH</code>, also later with <code>ood eval</code>.</p>";
    return;
  }
  const bool seeds = !r.objectives.front().over_seeds.empty();
  out << "<h2>How well OOD inputs are detected</h2>";
  out << "<p class=\"muted\">AUROC: the chance that an OOD input scores higher than an ID input; 1 "
         "is perfect, 0.5 is guessing. AUPR-in and AUPR-out: average precision with ID or OOD as "
         "the positive class. FPR95: share of OOD inputs accepted when 95 % of the ID inputs are. "
         "Own score: AUROC of the score that the objective was made for. The joint score is "
         "Fisher's sum of the p-values of the scores in brackets on held-out ID data. Rejected: "
         "share of the OOD inputs that the run's threshold rejects (of the test's ID inputs)."
      << (seeds ? " AUROC: mean and standard deviation over seeds, the highest mean first, what "
                  "did not learn last; bold where they meet those of the first. All other figures "
                  "are of the first seed."
          : r.objectives.size() > 1
              ? " AUROC with its 95 % bootstrap interval, the highest first, what did not learn "
                "last; bold where no other is shown to be better: where the 95 % interval of the "
                "difference to the first, on the same samples, holds 0."
              : " AUROC with its 95 % bootstrap interval.")
      << "</p>";
  for (const auto& set : r.sets()) {
    std::vector<const ObjectiveResults*> rows;
    for (const auto& o : r.objectives) rows.push_back(&o);
    std::stable_sort(rows.begin(), rows.end(), [&](const auto* a, const auto* b) {
      if (a->learned() != b->learned()) return a->learned();
      return a->auroc(set) > b->auroc(set);
    });
    out << "<h3>OOD set: " << escape(set)
        << "</h3><div class=\"card scroll\"><table class=\"stack\"><thead><tr><th class=\"l\">"
        << "objective</th><th class=\"l\">score</th><th>accuracy</th><th>AUROC</th><th>own "
           "score</th><th>AUPR-in</th><th>AUPR-out</th><th>FPR95</th><th>rejected</"
           "th><th>training</th></tr></thead><tbody>";
    for (const auto* row : rows) {
      const auto& o = *row;
      const auto& found = o.ood.at(set);
      const auto& f = found.detection;
      const auto cell = [&](const char* name, const std::string& text, const char* cls = "") {
        out << "<td" << (*cls ? std::string(" class=\"") + cls + "\"" : "") << " data-name=\""
            << name << "\">" << text << "</td>";
      };
      out << "<tr>";
      cell("objective",
           escape(o.objective) + (o.learned() ? "" : " <span class=\"bad\">did not learn</span>"),
           "l");
      cell("score", escape(score_text(o)), "l");
      cell("accuracy", o.accuracy ? fixed(100 * *o.accuracy, 1) + " %" : "does not classify");
      const std::string spread =
          seeds ? deviation(o.over_seeds.at(set), "&#177; ")
                : "(" + fixed(found.auroc.low, 3) + "&#8211;" + fixed(found.auroc.high, 3) + ")";
      cell(
          "AUROC", fixed(o.auroc(set), 3) + " <span class=\"muted\">" + spread + "</span>",
          r.objectives.size() > 1 && o.learned() && not_worse(o, set, *rows.front()) ? "best" : "");
      cell("own score",
           escape(o.own_score) + " " + fixed(o.scores.at(o.own_score).at(set).auroc, 3));
      cell("AUPR-in", fixed(f.aupr_in, 3));
      cell("AUPR-out", fixed(f.aupr_out, 3));
      cell("FPR95", fixed(100 * f.fpr95, 1) + " %");
      cell("rejected", found.rejected
                           ? fixed(100 * *found.rejected, 1) + " % <span class=\"muted\">(" +
                                 fixed(100 * *o.test_rejected, 1) + " %)</span>"
                           : "&#8211;");
      cell("training", o.steps ? fixed(o.seconds, 1) + " s" : "&#8211;");
      out << "</tr>";
    }
    out << "</tbody></table></div>";
  }
  for (const auto& o : r.objectives) {
    if (o.learned()) continue;
    out << "<p class=\"warn\"><b>" << escape(o.objective) << " did not learn:</b> "
        << escape(join(o.failure_signs))
        << ". Its AUROC says nothing of the objective; try other parameters, a smaller "
           "<code>--lr</code>, or more epochs.</p>";
  }
  std::string worse;
  for (const auto& o : r.objectives)
    for (const auto& set : r.sets())
      if (o.auroc(set) < 0.5)
        worse += (worse.empty() ? "" : "; ") + escape(o.objective) + ", " + escape(set) + " " +
                 fixed(o.auroc(set), 3);
  if (!worse.empty())
    out << "<p class=\"warn\"><b>AUROC below 0.5: " << worse
        << ".</b> There the score ranks the OOD inputs as more familiar than the known classes: "
           "the network is more certain of them than of its own classes. A detector with this "
           "score would accept them first.</p>";
}

// What each run promises, and what came of it.
void thresholds(std::ostream& out, const Results& r) {
  const auto has_one = [](const ObjectiveResults& o) { return o.threshold.has_value(); };
  if (std::none_of(r.objectives.begin(), r.objectives.end(), has_one)) return;
  out << "<h2>Thresholds</h2><p class=\"muted\">An input with a score above it is rejected. "
         "Promised: the share of ID inputs, drawn as the held-out ones were, that is rejected at "
         "most, with this confidence over the draw of the held-out inputs. It is void where inputs "
         "drift. <code>ood threshold RUN --false-alarms SHARE</code> sets another.</p><div "
         "class=\"card scroll\"><table class=\"stack\"><thead><tr><th "
         "class=\"l\">objective</th><th class=\"l\">score</th><th>threshold</th><th>held "
         "out</th><th>promised</th><th>of the test's ID inputs</th></tr></thead><tbody>";
  for (const auto& o : r.objectives) {
    if (!has_one(o)) continue;
    out << "<tr><td class=\"l\">" << escape(o.objective) << "</td><td class=\"l\">"
        << escape(o.score) << "</td><td data-name=\"threshold\">" << short_number(*o.threshold, 12)
        << "</td><td data-name=\"held out\">" << o.threshold_samples.value_or(0)
        << "</td><td data-name=\"promised\">at most "
        << short_number(100 * o.false_alarms.value_or(0), 6)
        << " % <span class=\"muted\">(confidence "
        << short_number(100 * o.false_alarms_confidence.value_or(0), 6)
        << " %)</span></td><td data-name=\"of the test's ID inputs\">"
        << (o.test_rejected ? fixed(100 * *o.test_rejected, 1) + " %" : "&#8211;") << "</td></tr>";
  }
  out << "</tbody></table></div>";
}

// Of a comparison with several seeds; everything else in the report is of the first.
void over_seeds(std::ostream& out, const Results& r) {
  if (r.objectives.front().over_seeds.empty()) return;
  out << "<h2>Over seeds</h2><p class=\"muted\">AUROC: mean and standard deviation over trainings "
         "with other seeds, and each of them. All other figures are of the first seed.</p><div "
         "class=\"card scroll\"><table class=\"stack\"><thead><tr><th "
         "class=\"l\">objective</th><th class=\"l\">OOD "
         "set</th><th>mean</th><th>deviation</th><th>runs</th></tr></thead><tbody>";
  for (const auto& o : r.objectives)
    for (const auto& [set, over] : o.over_seeds) {
      out << "<tr><td class=\"l\">" << escape(o.objective) << "</td><td class=\"l\">" << escape(set)
          << "</td><td data-name=\"mean\">" << fixed(over.mean, 3)
          << "</td><td data-name=\"deviation\">" << deviation(over)
          << "</td><td data-name=\"runs\">";
      for (const double v : over.runs) out << fixed(v, 3) << " ";
      out << "</td></tr>";
    }
  out << "</tbody></table></div>";
}

void dots_and_roc(std::ostream& out, const Results& r) {
  std::vector<std::string> objectives;
  for (const auto& o : r.objectives) objectives.push_back(o.objective);
  const auto names = keys(objectives);
  for (const auto& set : r.sets()) {
    out << "<h2>OOD set: " << escape(set) << "</h2><div class=\"grid\">";
    std::vector<DotRow> rows;
    LineChart roc{"ROC", {"ID inputs rejected"}, {"OOD inputs rejected"}, {}, true};
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto& o = r.objectives[i];
      const auto& found = o.ood.at(set);
      rows.push_back({names[i].name, names[i].color, found.detection.auroc, found.auroc.low,
                      found.auroc.high});
      roc.series.push_back({names[i].color, o.curves.at(set).roc, false, names[i].dash});
    }
    out << "<div class=\"card\">" << svg_dots("AUROC with 95 % interval", rows) << "</div>";
    out << "<div class=\"card\">" << svg(roc) << legend(names) << "</div></div>";
  }
}

void histograms(std::ostream& out, const Results& r) {
  out << "<h2>Scores of ID and OOD inputs</h2><p class=\"muted\">Share of the inputs in each of 40 "
         "common bins; the further right, the more likely OOD. The less the two overlap, the "
         "better the detection.</p>"
      << legend({{"ID", color(0)}, {"OOD", color(1)}})
      << "<div class=\"grid\" style=\"margin-top:8px\">";
  for (const auto& o : r.objectives)
    for (const auto& [set, c] : o.curves) {
      const Histogram& h = c.histogram;
      LineChart chart;
      chart.title = o.objective + " / " + set;
      chart.x = {"score: " + o.score, h.low, h.high};
      double top = 0;
      const auto steps = [&](const std::vector<double>& bins, std::size_t i) {
        Series s{color(i), {}, true};
        const double width = (h.high - h.low) / static_cast<double>(bins.size());
        double x = h.low;
        for (const double b : bins) {
          s.points.emplace_back(x, b);
          s.points.emplace_back(x += width, b);
          top = std::max(top, b);
        }
        chart.series.push_back(std::move(s));
      };
      steps(h.id, 0);
      steps(h.ood, 1);
      chart.y = {"share of inputs", 0, top * 1.05};
      out << "<div class=\"card\">" << svg(chart) << "</div>";
    }
  out << "</div>";
}

void training(std::ostream& out, const Results& r) {
  const auto only_tested = [](const ObjectiveResults& o) { return o.training.empty(); };
  if (std::all_of(r.objectives.begin(), r.objectives.end(), only_tested)) return;
  out << "<h2>Training</h2><p class=\"muted\">Loss and its terms by step, means over short "
         "stretches.</p><div class=\"grid\">";
  for (const auto& o : r.objectives) {
    if (o.training.empty()) continue;
    LineChart chart;
    chart.title = o.objective;
    chart.x = {"step", 0, std::max(1.0, static_cast<double>(o.steps.value_or(1)))};
    double low = 0;
    std::vector<Key> names;
    std::vector<double> heights;
    for (const auto& [name, points] : o.training) {
      if (name != "loss" && o.training.size() == 2) continue;  // the only term is the loss
      Series s{color(names.size()), {}};
      for (const auto& [step, loss] : points) {
        s.points.emplace_back(step, loss);
        low = std::min(low, loss);
        heights.push_back(loss);
      }
      names.push_back({name, s.color});
      chart.series.push_back(std::move(s));
    }
    // One spike must not flatten the rest: the axis ends where nearly all of the points are.
    std::sort(heights.begin(), heights.end());
    double high = heights.empty() ? 1 : heights.back();
    if (!heights.empty()) {
      const double most = heights[(heights.size() - 1) * 98 / 100];
      if (high > 2 * most && most > 0) {
        chart.title += " (peak " + short_number(high) + ")";
        high = 1.2 * most;
      }
    }
    chart.y = {"loss", low, high > low ? high : low + 1};
    out << "<div class=\"card\">" << svg(chart) << legend(names) << "</div>";
  }
  out << "</div>";
}

void all_scores(std::ostream& out, const Results& r) {
  out << "<h2>Every score beside the run's</h2><p class=\"muted\">AUROC; bold the run's score. It "
         "was fixed beforehand, by a rule that looks at no test data; picking the best column "
         "afterwards would be choosing by test data, and its figure would not hold for other "
         "inputs.</p><div class=\"card scroll\"><table class=\"stack\"><thead><tr><th "
         "class=\"l\">objective</th><th class=\"l\">OOD set</th>";
  // The run's score first.
  std::vector<std::string> names;
  const auto add = [&](const std::string& score) {
    if (std::find(names.begin(), names.end(), score) == names.end()) names.push_back(score);
  };
  for (const auto& o : r.objectives) add(o.score);
  for (const auto& o : r.objectives)
    for (const auto& [score, unused] : o.scores) add(score);
  for (const auto& name : names) out << "<th>" << escape(name) << "</th>";
  out << "</tr></thead><tbody>";
  const auto row = [&](const ObjectiveResults& o, const std::string& set,
                       const ByName<ByName<Detection>>& found, const std::string& key) {
    out << "<tr><td class=\"l\">" << escape(o.objective)
        << "</td><td class=\"l\" data-name=\"OOD set\">" << escape(set) << "</td>";
    for (const auto& score : names)
      out << "<td data-name=\"" << escape(score) << "\""
          << (score == o.score ? " class=\"best\"" : "") << ">"
          << (found.contains(score) ? fixed(found.at(score).at(key).auroc, 3) : "&#8211;")
          << "</td>";
    out << "</tr>";
  };
  for (const auto& o : r.objectives) {
    for (const auto& set : r.sets()) row(o, set, o.scores, set);
    if (!o.groups.empty())
      for (const auto& [group, unused] : o.groups.at(o.score))
        row(o, group + ", mean", o.groups, group);
  }
  out << "</tbody></table></div>";
}

void classes(std::ostream& out, const Results& r) {
  out << "<h2>Known classes</h2><p class=\"muted\">Samples, and the share of the test samples of "
         "the class that an objective puts into it.</p><div class=\"card "
         "scroll\"><table><thead><tr><th class=\"l\">class</th><th>training</th><th>test</th>";
  for (const auto& o : r.objectives)
    if (!o.class_accuracy.empty()) out << "<th>" << escape(o.objective) << "</th>";
  out << "</tr></thead><tbody>";
  for (std::size_t c = 0; c < r.classes.size(); ++c) {
    const auto& k = r.classes[c];
    out << "<tr><td class=\"l\">" << escape(k.name) << "</td><td>" << k.train << "</td><td>"
        << k.test << "</td>";
    for (const auto& o : r.objectives)
      if (!o.class_accuracy.empty()) {
        const auto& v = o.class_accuracy.at(c);
        out << "<td>" << (v ? fixed(100 * *v, 1) + " %" : "&#8211;") << "</td>";
      }
    out << "</tr>";
  }
  out << "</tbody></table></div>";
}

void configuration(std::ostream& out, const Results& r) {
  out << "<h2>Configuration</h2><div class=\"card\"><details open><summary>Shared by all runs"
      << "</summary><pre>" << escape(r.config) << "</pre></details>";
  for (const auto& o : r.objectives) {
    if (o.parameters.empty()) continue;
    out << "<p><b>" << escape(o.objective) << "</b>:";
    const char* separator = " ";
    for (const auto& [name, value] : o.parameters) {
      out << separator << escape(name) << " = " << short_number(value, 6);
      separator = ", ";
    }
    out << "</p>";
  }
  out << "<p class=\"muted\">libood " << escape(r.version) << "</p></div>";
}

}  // namespace

std::string html(const Results& r) {
  std::ostringstream out;
  out << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width,initial-scale=1\"><title>OOD report: "
      << escape(r.name) << "</title><style>" << kStyle << "</style></head><body><main>";
  introduction(out, r);
  comparison(out, r);
  thresholds(out, r);
  over_seeds(out, r);
  dots_and_roc(out, r);
  if (!r.sets().empty()) histograms(out, r);
  training(out, r);
  if (!r.sets().empty()) all_scores(out, r);
  classes(out, r);
  configuration(out, r);
  out << "</main></body></html>\n";
  return out.str();
}

}  // namespace ood::report
