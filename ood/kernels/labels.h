#pragma once

#include <cstdint>

/// What the labels of a batch say, without knowledge of any objective.
namespace ood::kernels {

/// What stands for a row's class where it is OOD,
inline constexpr std::int32_t kNoClass = -1;
/// and where it takes no part: its statistics and gradients are 0.
inline constexpr std::int32_t kNoPart = -2;

struct Labels {
  const std::int64_t* label;  ///< < 0 is OOD
  std::int64_t count;
  std::int64_t classes;
  bool ignoring;  ///< whether `ignored` means something
  std::int64_t ignored;
};

struct LabelCounts {
  std::int64_t known = 0;      ///< in-distribution, without ignored ones
  std::int64_t unknown = 0;    ///< OOD, without ignored ones
  std::int64_t too_large = 0;  ///< known ones that are no class
};

LabelCounts count_labels(const Labels& labels);

/// of_row[i] = the class of row i; `outlier` where it is OOD; kNoPart where it is ignored, or its
/// label is no class. Returns whether there is one of the last kind.
bool mark_rows(const Labels& labels, std::int32_t outlier, std::int32_t* of_row);

}  // namespace ood::kernels
