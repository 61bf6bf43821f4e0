#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ood/formula/evaluate.h"
#include "ood/formula/tensor_row.h"
#include "ood/registry/card.h"
#include "ood/registry/slice.h"

/// The one list of all objectives. Command line, ops, Python, documentation, generic tests and
/// benchmarks read it; an objective enters it from its own file (OOD_REGISTER).
namespace ood {

struct ParameterEntry {
  enum Kind { kReal, kWhole, kFlag };
  std::string_view name;
  Kind kind;
  double default_value;
  double min;
  double max;
  std::string_view help;
  std::string_view source;
  bool training_only;

  /// "at least 0", "a whole number at least 2 and at most 1e+07", "0 or 1", ...
  std::string range() const;
};

/// The table of parameters of an objective or a score.
template <class S>
std::vector<ParameterEntry> parameter_entries() {
  const S defaults;
  std::vector<ParameterEntry> entries;
  for (const auto& p : S::kParameters) {
    const double value =
        std::visit([&](auto member) { return static_cast<double>(defaults.*member); }, p.member);
    entries.push_back({p.name, static_cast<ParameterEntry::Kind>(p.member.index()), value, p.min,
                       p.max, p.help, p.source, p.training_only});
  }
  return entries;
}

/// A formula's evaluation on blocks of rows, compiled for one instruction set.
template <class F>
struct FormulaEvaluator {
  void (*forward)(const double*, const RowBlock<F>&, const ForwardResult<F>&);
  void (*backward)(const double*, const RowBlock<F>&, const Upstream<F>&, const BackwardResult<F>&);
};

/// Instruction sets that formulas are compiled for: what every machine of the architecture has, and
/// AVX2. With AVX-512, gcc 12 takes comparisons of vectors apart.
inline constexpr std::size_t kFormulaLevels = 2;

/// Means of each term over the ID rows, then over the others; what is 0 where there are none.
struct BatchMeans {
  std::vector<double> values;  ///< [2, T]
  bool both;                   ///< neither population is empty
};

/// Terms made of them, and what each mean's change adds to the terms' sum.
struct CombinedMeans {
  std::vector<double> terms;        ///< [T]
  std::vector<double> derivatives;  ///< [2, T]
};

/// A formula with its type erased.
struct FormulaEntry {
  unsigned statistics;  ///< of `Statistic`
  bool scaled;
  bool needs_input;
  std::array<FormulaEvaluator<float>, kFormulaLevels> f32;
  FormulaEvaluator<double> f64;
  void (*scale_f32)(const double*, std::int64_t, const float*, float*);  ///< null: not scaled
  void (*scale_f64)(const double*, std::int64_t, const double*, double*);
  std::vector<at::Tensor> (*composite)(const double*, const TensorRow&, const at::Tensor& known);
  at::Tensor (*composite_scale)(const double*, const at::Tensor& sqnorm);
  /// Of an objective that is a function of the batch's means; null: the terms are means and have
  /// values per row.
  at::Tensor (*combine)(const double*, const at::Tensor& sums, const at::Tensor& counts);
  void (*combine_means)(const double*, const BatchMeans&, CombinedMeans&);
};

struct ObjectiveEntry : Card {
  std::vector<ParameterEntry> parameters;
  std::vector<std::string_view> terms;
  std::vector<std::string_view> extras;  ///< further inputs per row
  std::vector<Exclusion> exclusions;
  FormulaEntry row{};  ///< empty where the objective is no formula
  SliceEntry slice{};

  /// Whether row_terms and loss can compute it.
  bool is_formula() const { return row.f64.forward != nullptr; }
  /// Whether it is a formula of logits and nothing else.
  bool takes_logits_alone() const { return is_formula() && slice.prepare == nullptr; }

  std::vector<double> defaults() const;
  /// The value of a parameter among `values`; an error where there is none of that name.
  double value(Numbers values, std::string_view parameter) const;
  /// Width of the network's output in a training; 0: what the classes need.
  std::int64_t embedding_width(std::int64_t classes) const {
    return embedding > 0 && slice.by_class ? std::max(embedding, classes) : embedding;
  }
  /// The state of a module, or of a training.
  std::vector<State> state(bool training) const;
  /// How many tensors of the state of a module its loss reads.
  std::size_t loss_state() const;
};

/// Sorted by name. Plug-ins that are loaded later appear in later calls.
std::vector<const ObjectiveEntry*> objectives();

/// Those of them that are formulas.
std::vector<const ObjectiveEntry*> formulas();

/// nullptr where there is none of that name.
const ObjectiveEntry* find_objective(std::string_view name);

/// The entry, or a c10::ValueError that names the nearest known objective.
const ObjectiveEntry& get_objective(std::string_view name);

/// In the order of a table what is given by name, else the default; other names play no part.
std::vector<double> values_of(const std::vector<ParameterEntry>& table,
                              const std::map<std::string, double>& given);

/// Checks values against the ranges of a table; a c10::ValueError names parameter, range and value.
void check_parameters(std::string_view who, const std::vector<ParameterEntry>& table,
                      Numbers values);

/// Adds an entry; registering a name twice is an error. Returns true.
bool register_objective(ObjectiveEntry entry);

/// The registry as JSON text: what `ood objectives --json` prints.
std::string objectives_json();

}  // namespace ood
