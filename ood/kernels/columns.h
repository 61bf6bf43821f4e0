#pragma once

#include "ood/kernels/row.h"

/// The kernels of row.h for logits whose classes are strided and whose samples lie side by side, as
/// the pixels of an image [C, H, W]: one vector lane a sample. Same results and conventions.
namespace ood::kernels {

/// Number c of sample i is at data[c * class_stride + i].
template <class T>
struct Columns {
  const T* data;
  std::int64_t samples;
  std::int64_t classes;
  std::int64_t class_stride;
  const T* scale;                       ///< k per sample, or nullptr for 1
  const std::int32_t* label = nullptr;  ///< as of Rows
};

/// out.exp is required: room for the samples' numbers, apart from them or, with the same stride, in
/// their place.
void column_statistics(const Columns<float>& columns, const RowStatistics<float>& out);
void column_statistics(const Columns<double>& columns, const RowStatistics<double>& out);

void column_square_norms(const Columns<float>& columns, float* out);
void column_square_norms(const Columns<double>& columns, double* out);

/// Writes the gradient of number c of sample i to grad[c * grad_stride + i]; grad may be what it is
/// computed from, the samples' own memory or `exp`.
void column_gradient(const Columns<float>& columns, const RowCoefficients<float>& coefficients,
                     float* grad, std::int64_t grad_stride);
void column_gradient(const Columns<double>& columns, const RowCoefficients<double>& coefficients,
                     double* grad, std::int64_t grad_stride);

}  // namespace ood::kernels
