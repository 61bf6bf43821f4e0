#pragma once

#include <cstdint>

/// Rows of few numbers spend their time on the row, not on its numbers; turned round, a vector lane
/// is a row (columns.h).
namespace ood::kernels {

/// Number c of row i, from rows[i * row_stride + c] to columns[c * column_stride + i].
void rows_to_columns(const float* rows, std::int64_t n, std::int64_t classes,
                     std::int64_t row_stride, float* columns, std::int64_t column_stride);
void rows_to_columns(const double* rows, std::int64_t n, std::int64_t classes,
                     std::int64_t row_stride, double* columns, std::int64_t column_stride);

/// The other way.
void columns_to_rows(const float* columns, std::int64_t n, std::int64_t classes,
                     std::int64_t column_stride, float* rows, std::int64_t row_stride);
void columns_to_rows(const double* columns, std::int64_t n, std::int64_t classes,
                     std::int64_t column_stride, double* rows, std::int64_t row_stride);

}  // namespace ood::kernels
