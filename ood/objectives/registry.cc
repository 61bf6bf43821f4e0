#include "ood/objectives/registry.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ood {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<std::unique_ptr<ObjectiveEntry>> entries;
};

Registry& registry() {
  static Registry r;
  return r;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row.back();
}

// JSON knows no infinity; a missing bound is null.
nlohmann::ordered_json bound(double v) {
  if (v == kInfinity || v == -kInfinity) return nullptr;
  return v;
}

std::string_view balance_name(Balance b) {
  return b == Balance::kWholeBatch ? "whole_batch" : "per_population";
}

}  // namespace

std::vector<double> ObjectiveEntry::defaults() const {
  std::vector<double> values;
  for (const auto& p : parameters) values.push_back(p.default_value);
  return values;
}

std::vector<const ObjectiveEntry*> objectives() {
  const std::lock_guard lock(registry().mutex);
  std::vector<const ObjectiveEntry*> all;
  for (const auto& e : registry().entries) all.push_back(e.get());
  std::sort(all.begin(), all.end(), [](auto* a, auto* b) { return a->name < b->name; });
  return all;
}

std::vector<const ObjectiveEntry*> formulas() {
  auto all = objectives();
  std::erase_if(all, [](const ObjectiveEntry* e) { return !e->is_formula(); });
  return all;
}

const ObjectiveEntry* find_objective(std::string_view name) {
  const std::lock_guard lock(registry().mutex);
  for (const auto& e : registry().entries)
    if (e->name == name) return e.get();
  return nullptr;
}

const ObjectiveEntry& get_objective(std::string_view name) {
  if (const ObjectiveEntry* e = find_objective(name)) return *e;
  std::vector<std::string_view> names;
  for (const auto* e : objectives()) names.push_back(e->name);
  const std::string_view near = nearest(name, names);
  C10_THROW_ERROR(ValueError,
                  c10::str("unknown objective \"", name, "\"",
                           near.empty() ? "" : c10::str("; did you mean \"", near, "\"?")));
}

void check_parameters(const ObjectiveEntry& entry, const double* values, std::size_t count) {
  TORCH_CHECK_VALUE(count == entry.parameters.size(), entry.name, ": expected ",
                    entry.parameters.size(), " parameters, got ", count);
  for (std::size_t i = 0; i < count; ++i) {
    const ParameterEntry& p = entry.parameters[i];
    if (values[i] >= p.min && values[i] <= p.max) continue;
    const std::string low = p.min == kAboveZero ? "above 0" : c10::str("at least ", p.min);
    const std::string high =
        p.max == kInfinity ? "" : c10::str(p.min == -kInfinity ? "" : " and ", "at most ", p.max);
    C10_THROW_ERROR(ValueError, c10::str(entry.name, ": expected ", p.name, " ",
                                         p.min == -kInfinity && p.max == kInfinity
                                             ? std::string("to be a number")
                                             : (p.min == -kInfinity ? "" : low) + high,
                                         ", got ", values[i]));
  }
}

bool register_objective(ObjectiveEntry entry) {
  TORCH_CHECK(find_objective(entry.name) == nullptr, "objective \"", entry.name,
              "\" is registered twice");
  const std::lock_guard lock(registry().mutex);
  registry().entries.push_back(std::make_unique<ObjectiveEntry>(std::move(entry)));
  return true;
}

std::string objectives_json() {
  auto all = nlohmann::ordered_json::array();
  for (const auto* e : objectives()) {
    nlohmann::ordered_json o;
    o["name"] = e->name;
    o["class"] = e->class_name;
    o["summary"] = e->summary;
    o["formula"] = e->formula;
    o["paper"] = e->paper;
    o["score"] = e->score;
    o["uses_outliers"] = e->uses_ood;
    o["ood_labels"] = e->ood_labels;
    o["input"] = e->input;
    o["pitfalls"] = e->pitfalls;
    o["formula_op"] = e->is_formula();
    o["per_row"] = e->row.combine == nullptr;
    o["learning_rate"] = e->learning_rate;
    o["balance"] = balance_name(e->balance);
    o["terms"] = e->terms;
    o["extras"] = e->extras;
    o["parameters"] = nlohmann::ordered_json::array();
    for (const auto& p : e->parameters)
      o["parameters"].push_back({{"name", p.name},
                                 {"default", p.default_value},
                                 {"min", bound(p.min)},
                                 {"max", bound(p.max)},
                                 {"help", p.help},
                                 {"source", p.source}});
    o["excluded_from_tests"] = nlohmann::ordered_json::array();
    for (const auto& x : e->exclusions)
      o["excluded_from_tests"].push_back({{"test", x.test}, {"reason", x.reason}});
    all.push_back(std::move(o));
  }
  return all.dump(2);
}

std::string_view nearest(std::string_view name, const std::vector<std::string_view>& candidates) {
  std::string_view best;
  std::size_t least = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const auto c : candidates)
    if (const std::size_t d = edit_distance(name, c); d < least) {
      least = d;
      best = c;
    }
  return best;
}

}  // namespace ood
