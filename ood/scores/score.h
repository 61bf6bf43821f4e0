#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

#include "ood/registry/registry.h"

/// Scores of a trained network: one number a sample, higher means rather OOD. A score is one file,
/// entered into a list from there (OOD_REGISTER_SCORE), from which the program, the documentation,
/// Python and the generic tests are made. docs/adding-a-score.md walks through one.
namespace ood {

class FitData;

/// What a score says of itself.
struct ScoreCard {
  /// What a score looks at, and what it is fitted to, as a bit mask.
  enum Need : unsigned {
    kLogits = 1,    ///< [N, K]
    kFeatures = 2,  ///< before the last layer [N, D]
    kLabels = 4,    ///< of the training data
    kHead = 8,      ///< weight [K, D] and bias [K] of the last layer
    kHeldOut = 16,  ///< logits and labels of held-out ID data
  };
  std::string_view name;        ///< of the command line, e.g. "knn"
  std::string_view class_name;  ///< in Python, e.g. "KNN"
  std::string_view summary;     ///< one sentence
  std::string_view formula;     ///< as text
  std::string_view paper;
  std::string_view pitfalls = "";
  unsigned uses;     ///< of kLogits and kFeatures: what it is computed of
  unsigned fit = 0;  ///< what it is fitted to; 0: it is not
};

/// A score with its type erased. What it learns of training data is a list of tensors.
struct ScoreEntry : ScoreCard {
  std::vector<ParameterEntry> parameters;
  std::vector<std::string_view> state;  ///< names of what fit() gives
  std::vector<at::Tensor> (*fit_to)(Numbers, const FitData&) = nullptr;
  at::Tensor (*compute)(Numbers, const NetworkOutput&, Tensors state) = nullptr;  ///< float64 [N]

  std::vector<double> defaults() const;
};

/// Sorted by name.
std::vector<const ScoreEntry*> scores();
/// nullptr where there is none of that name.
const ScoreEntry* find_score(std::string_view name);
/// The score, or a c10::ValueError that lists the known ones.
const ScoreEntry& get_score(std::string_view name);
/// Adds an entry; registering a name twice is an error. Returns true.
bool register_score(ScoreEntry entry);
/// The list as JSON text: what `ood scores --json` prints.
std::string scores_json();

/// What a score learns of ID training data; empty for one that learns nothing. A c10::ValueError
/// says in a line why it cannot: a class without rows, constant features, too few rows, NaN.
std::vector<at::Tensor> fit_score(const ScoreEntry& score, Numbers parameters, const FitData& data);

/// float64 [N]. A c10::ValueError names what does not fit the state.
at::Tensor compute_score(const ScoreEntry& score, Numbers parameters, const NetworkOutput& output,
                         Tensors state);

/// The score of an objective [N]: its own where it has one, else the general one that its card
/// names, of the logits of the classes in float64; undefined where it has none.
at::Tensor own_score(const Readout& readout, std::string_view score, const at::Tensor& features);

}  // namespace ood
