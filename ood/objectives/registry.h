#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ood/formula/evaluate.h"
#include "ood/formula/tensor_row.h"

/// The one list of all objectives. Command line, ops, Python, documentation, generic tests and
/// benchmarks read it; an objective enters it from its own file (OOD_REGISTER_FORMULA).
namespace ood {

struct ParameterEntry {
  std::string_view name;
  double default_value;
  double min;
  double max;
  std::string_view help;
  std::string_view source;
};

/// A formula's evaluation on blocks of rows, compiled for one instruction set.
template <class F>
struct FormulaEvaluator {
  void (*forward)(const double*, const RowBlock<F>&, const ForwardResult<F>&);
  void (*backward)(const double*, const RowBlock<F>&, const Upstream<F>&, const BackwardResult<F>&);
};

/// Instruction sets that formulas are compiled for: what every machine of the architecture has, and
/// AVX2. With AVX-512, gcc 12 takes comparisons of vectors apart.
inline constexpr std::size_t kFormulaLevels = 2;

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
  /// sums [2, T] and counts [2] -> terms [T] for an objective that is a function of the batch;
  /// null: the terms are means and have values per row.
  at::Tensor (*combine)(const double*, const at::Tensor& sums, const at::Tensor& counts);
};

struct ObjectiveEntry {
  std::string_view name;        ///< of the command line, e.g. "outlier_exposure"
  std::string_view class_name;  ///< of the modules, e.g. "OutlierExposureLoss"
  std::string_view summary;     ///< one sentence
  std::string_view formula;     ///< as text
  std::string_view paper;
  std::string_view score;       ///< the score that fits a network trained with it
  std::string_view ood_labels;  ///< what happens to rows with a label below 0
  bool uses_ood;                ///< false: OOD rows take no part
  Balance balance;              ///< what Balance::kDefault means here
  std::vector<ParameterEntry> parameters;
  std::vector<std::string_view> terms;
  std::vector<std::string_view> extras;  ///< further inputs per row
  std::vector<Exclusion> exclusions;
  std::string_view input = "logits";  ///< what a row of the formula is, or what the objective takes
  std::string_view pitfalls;          ///< what users get wrong; may be empty
  bool ood_is_last_class = false;     ///< OOD rows get the label C - 1
  std::int64_t further_outputs = 0;   ///< outputs of the network beside the logits
  std::int64_t embedding = 0;         ///< width of the network's output it wants; 0: the classes
  bool without_bias = false;          ///< the network must not have biases
  bool trains_features = false;       ///< a part of the loss is on the features
  double learning_rate = 0.1;         ///< peak for SGD with momentum from random weights
  bool classifies = true;             ///< false: all known classes are one
  FormulaEntry row{};                 ///< empty where the objective is no formula

  /// Whether row_terms and loss can compute it.
  bool is_formula() const { return row.f64.forward != nullptr; }

  std::vector<double> defaults() const;
};

/// Sorted by name. Plug-ins that are loaded later appear in later calls.
std::vector<const ObjectiveEntry*> objectives();

/// Those of them that are formulas.
std::vector<const ObjectiveEntry*> formulas();

/// nullptr where there is none of that name.
const ObjectiveEntry* find_objective(std::string_view name);

/// The entry, or a c10::ValueError that names the nearest known objective.
const ObjectiveEntry& get_objective(std::string_view name);

/// Checks the values against the entry's ranges; a c10::ValueError names parameter, range and
/// value.
void check_parameters(const ObjectiveEntry& entry, const double* values, std::size_t count);

/// Adds an entry; registering a name twice is an error. Returns true.
bool register_objective(ObjectiveEntry entry);

/// The registry as JSON text: what `ood objectives --json` prints.
std::string objectives_json();

/// The candidate nearest to `name` by edit distance, for "did you mean"; empty if none is near.
std::string_view nearest(std::string_view name, const std::vector<std::string_view>& candidates);

}  // namespace ood
