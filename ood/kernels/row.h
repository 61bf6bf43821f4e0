#pragma once

#include <cstdint>

#include "ood/kernels/labels.h"

/// Row kernels: plain C++ on pointers and sizes. They know rows of numbers, no objective and no
/// torch; they allocate nothing, print nothing and never abort. T is float or double.
///
/// Notation: x a row of C numbers, w = k x its scaled row (k = 1 unless a scale is given),
/// m = max x, r = k (x - m) <= 0, S = log sum exp r, p = softmax(w) = exp(r - S). k must not be
/// negative.
namespace ood::kernels {

/// A block of rows. Row i starts at data + i * stride; its numbers lie side by side.
/// label == nullptr means that every row takes part and has no class.
template <class T>
struct Rows {
  const T* data;
  std::int64_t rows;
  std::int64_t classes;
  std::int64_t stride;
  const T* scale;                       ///< k per row, or nullptr for 1.
  const std::int32_t* label = nullptr;  ///< class y of a row, kNoClass, or kNoPart: never read
};

/// Where to put the statistics, one number a row; a nullptr is not computed.
/// Everything but `max` is relative to the maximum, so that an offset common to a row costs no
/// digits. A row that holds NaN or +inf gets NaN in max and log_sum. -inf counts as a masked class.
template <class T>
struct RowStatistics {
  T* max;               ///< m
  T* log_sum;           ///< S, so that logsumexp(w) = k m + S
  T* mean;              ///< mean of r
  T* expected;          ///< sum p r
  T* target = nullptr;  ///< r[y]; 0 for a row without a label
  /// exp r of every number, for the gradient to start from: as rows or columns with a stride of
  /// their own. Only written for rows that take part.
  T* exp = nullptr;
  std::int64_t exp_stride = 0;
};

/// What the gradient of a row is made of: a p + b + c onehot(y) + d x. c, d == nullptr means 0.
template <class T>
struct RowCoefficients {
  const T* max;
  const T* log_sum;
  const T* a;
  const T* b;
  const T* d;
  const T* c = nullptr;
  /// What the statistics left; nullptr: computed again. For rows this may be the gradient's memory.
  const T* exp = nullptr;
  std::int64_t exp_stride = 0;
};

void row_statistics(const Rows<float>& rows, const RowStatistics<float>& out);
void row_statistics(const Rows<double>& rows, const RowStatistics<double>& out);

/// out[i] = sum of squares of row i, unscaled.
void row_square_norms(const Rows<float>& rows, float* out);
void row_square_norms(const Rows<double>& rows, double* out);

/// Writes the gradient of row i to grad + i * grad_stride. grad may be the rows' own memory.
void row_gradient(const Rows<float>& rows, const RowCoefficients<float>& coefficients, float* grad,
                  std::int64_t grad_stride);
void row_gradient(const Rows<double>& rows, const RowCoefficients<double>& coefficients,
                  double* grad, std::int64_t grad_stride);

}  // namespace ood::kernels
