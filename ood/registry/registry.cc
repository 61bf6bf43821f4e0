#include "ood/registry/registry.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "ood/registry/entries.h"
#include "ood/registry/parameters_json.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

Entries<ObjectiveEntry>& registry() {
  static Entries<ObjectiveEntry> entries;
  return entries;
}

// JSON knows no infinity; a missing bound is null.
nlohmann::ordered_json bound(double v) {
  if (v == kInfinity || v == -kInfinity) return nullptr;
  return v;
}

constexpr std::string_view kKinds[] = {"real", "whole", "flag"};

}  // namespace

std::vector<double> values_of(const std::vector<ParameterEntry>& table,
                              const std::map<std::string, double>& given) {
  std::vector<double> values;
  for (const auto& p : table) {
    const auto it = given.find(std::string(p.name));
    values.push_back(it == given.end() ? p.default_value : it->second);
  }
  return values;
}

std::vector<double> ObjectiveEntry::defaults() const { return values_of(parameters, {}); }

std::vector<const ObjectiveEntry*> objectives() { return registry().all(); }

std::vector<const ObjectiveEntry*> formulas() {
  auto all = objectives();
  std::erase_if(all, [](const ObjectiveEntry* e) { return !e->is_formula(); });
  return all;
}

const ObjectiveEntry* find_objective(std::string_view name) { return registry().find(name); }

const ObjectiveEntry& get_objective(std::string_view name) {
  if (const ObjectiveEntry* e = find_objective(name)) return *e;
  std::vector<std::string_view> names;
  for (const auto* e : objectives()) names.push_back(e->name);
  const std::string_view near = nearest(name, names);
  C10_THROW_ERROR(ValueError,
                  c10::str("unknown objective \"", name, "\"",
                           near.empty() ? "" : c10::str("; did you mean \"", near, "\"?")));
}

void check_parameters(std::string_view who, const std::vector<ParameterEntry>& table,
                      Numbers values) {
  TORCH_CHECK_VALUE(values.size() == table.size(), who, ": expected ", table.size(),
                    " parameters, got ", values.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    const ParameterEntry& p = table[i];
    const bool whole = p.kind == ParameterEntry::kReal || values[i] == std::floor(values[i]);
    TORCH_CHECK_VALUE(values[i] >= p.min && values[i] <= p.max && whole, who, ": expected ", p.name,
                      " ", p.range(), ", got ", values[i]);
  }
}

std::string ParameterEntry::range() const {
  if (kind == kFlag) return "0 or 1";
  const std::string what = kind == kWhole ? "a whole number " : "";
  if (min == -kInfinity && max == kInfinity) return kind == kWhole ? what : "to be a number";
  if (max == kInfinity) return what + (min == kAboveZero ? "above 0" : c10::str("at least ", min));
  if (min == -kInfinity) return what + c10::str("at most ", max);
  return what + (min == kAboveZero ? "above 0" : c10::str("at least ", min)) +
         c10::str(" and at most ", max);
}

double ObjectiveEntry::value(Numbers values, std::string_view parameter) const {
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (parameters[i].name == parameter) return values[i];
  TORCH_CHECK(false, name, ": has no parameter ", parameter);
}

std::vector<State> ObjectiveEntry::state(bool training) const {
  auto all = slice.state;
  std::erase_if(all, [&](const State& s) { return s.training_only && !training; });
  return all;
}

std::size_t ObjectiveEntry::loss_state() const {
  return static_cast<std::size_t>(
      std::count_if(slice.state.begin(), slice.state.end(),
                    [](const State& s) { return s.in_loss && !s.training_only; }));
}

bool register_objective(ObjectiveEntry entry) {
  registry().add("objective", std::move(entry));
  return true;
}

nlohmann::ordered_json parameters_json(const std::vector<ParameterEntry>& table) {
  auto all = nlohmann::ordered_json::array();
  for (const auto& p : table)
    all.push_back({{"name", p.name},
                   {"kind", kKinds[p.kind]},
                   {"default", p.default_value},
                   {"min", bound(p.min)},
                   {"max", bound(p.max)},
                   {"help", p.help},
                   {"source", p.source},
                   {"training_only", p.training_only}});
  return all;
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
    o["per_row"] = e->per_row && e->row.combine == nullptr;
    o["learning_rate"] = e->learning_rate;
    o["pretrained"] = e->pretrained;
    o["balance"] = name(e->balance);
    o["terms"] = e->terms;
    o["extras"] = e->extras;
    o["parameters"] = parameters_json(e->parameters);
    o["inputs"] = nlohmann::ordered_json::array();
    for (const auto& i : e->slice.inputs) o["inputs"].push_back(i.name);
    o["target"] = e->slice.target;
    o["by_class"] = e->slice.by_class;
    o["by_dimension"] = e->slice.by_dimension;
    o["draws"] = e->slice.draw == nullptr         ? "nothing"
                 : e->slice.outliers_through_head ? "outliers"
                                                  : "input";
    o["updates_each_step"] = e->slice.updates_each_step;
    o["updates_first"] = e->slice.updates_first;
    o["has_distances"] = e->slice.distances != nullptr;
    o["logits_alone"] = e->takes_logits_alone();
    o["embedding"] = e->embedding;
    o["classifies"] = e->classifies;
    o["ood_is_last_class"] = e->ood_is_last_class;
    o["further_outputs"] = e->further_outputs;
    o["state"] = nlohmann::ordered_json::array();
    for (const auto& s : e->slice.state)
      o["state"].push_back({{"name", s.name},
                            {"role", s.role == State::kParameter ? "parameter"
                                     : s.role == State::kExact   ? "exact"
                                                                 : "buffer"},
                            {"in_loss", s.in_loss},
                            {"training_only", s.training_only},
                            {"fixed_by", s.fixed_by},
                            {"python_holder", s.python_holder}});
    o["excluded_from_tests"] = nlohmann::ordered_json::array();
    for (const auto& x : e->exclusions)
      o["excluded_from_tests"].push_back({{"test", x.test}, {"reason", x.reason}});
    all.push_back(std::move(o));
  }
  return all.dump(2);
}

}  // namespace ood
