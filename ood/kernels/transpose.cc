#include "ood/kernels/transpose.h"

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/transpose.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE void Plain(const T* from, std::int64_t n, std::int64_t m, std::int64_t from_stride,
                      T* to, std::int64_t to_stride) {
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < m; ++j) to[j * to_stride + i] = from[i * from_stride + j];
}

#if HWY_TARGET != HWY_SCALAR && !HWY_HAVE_SCALABLE
#define OOD_BLOCKS_OF_FOUR 1

constexpr std::size_t kSquare = 4;  // numbers of a block of 128 bits

// Block b of the vector is the four numbers at from + 4 b stride.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const float* from, std::int64_t stride) {
  if constexpr (hn::MaxLanes(D()) == kSquare) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    const auto rows = static_cast<std::int64_t>(hn::Lanes(half));
    return hn::Combine(d, LoadBlocks(half, from + rows * stride, stride),
                       LoadBlocks(half, from, stride));
  }
}

template <class D>
HWY_INLINE void StoreBlocks(D d, hn::Vec<D> v, float* to, std::int64_t stride) {
  if constexpr (hn::MaxLanes(D()) == kSquare) {
    hn::StoreU(v, d, to);
  } else {
    const hn::Half<D> half;
    const auto rows = static_cast<std::int64_t>(hn::Lanes(half));
    StoreBlocks(half, hn::LowerHalf(half, v), to, stride);
    StoreBlocks(half, hn::UpperHalf(half, v), to + rows * stride, stride);
  }
}

// Four vectors as rows of a square a block, to its columns.
template <class D>
struct Squares {
  hn::Vec<D> v0, v1, v2, v3;

  HWY_INLINE void Transpose(D d) {
    const hn::Repartition<double, D> pairs;
    const auto both = [&](auto v) HWY_ATTR { return hn::BitCast(pairs, v); };
    const auto low01 = both(hn::InterleaveLower(d, v0, v1)),
               low23 = both(hn::InterleaveLower(d, v2, v3)),
               high01 = both(hn::InterleaveUpper(d, v0, v1)),
               high23 = both(hn::InterleaveUpper(d, v2, v3));
    v0 = hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23));
    v1 = hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23));
    v2 = hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23));
    v3 = hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23));
  }
};

// Calls body(i, c) for squares of a vector of rows from i and four classes from c; the last ones
// may overlap. Returns the rows done.
template <class Body>
HWY_INLINE std::int64_t ForEachSquare(std::int64_t n, std::int64_t classes, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  constexpr auto kWidth = static_cast<std::int64_t>(kSquare);
  if (classes < kWidth) return 0;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t c = 0; c + kWidth <= classes; c += kWidth) body(i, c);
    if (classes % kWidth != 0) body(i, classes - kWidth);
  }
  return i;
}
#endif

void RowsToColumnsF32(const float* rows, std::int64_t n, std::int64_t classes,
                      std::int64_t row_stride, float* columns, std::int64_t column_stride) {
  std::int64_t done = 0;
#ifdef OOD_BLOCKS_OF_FOUR
  const hn::ScalableTag<float> d;
  done = ForEachSquare(n, classes, [&](std::int64_t i, std::int64_t c) HWY_ATTR {
    const float* from = rows + i * row_stride + c;
    Squares<decltype(d)> s{LoadBlocks(d, from, row_stride),
                           LoadBlocks(d, from + row_stride, row_stride),
                           LoadBlocks(d, from + 2 * row_stride, row_stride),
                           LoadBlocks(d, from + 3 * row_stride, row_stride)};
    s.Transpose(d);
    float* to = columns + c * column_stride + i;
    hn::StoreU(s.v0, d, to);
    hn::StoreU(s.v1, d, to + column_stride);
    hn::StoreU(s.v2, d, to + 2 * column_stride);
    hn::StoreU(s.v3, d, to + 3 * column_stride);
  });
#endif
  Plain(rows + done * row_stride, n - done, classes, row_stride, columns + done, column_stride);
}

void ColumnsToRowsF32(const float* columns, std::int64_t n, std::int64_t classes,
                      std::int64_t column_stride, float* rows, std::int64_t row_stride) {
  std::int64_t done = 0;
#ifdef OOD_BLOCKS_OF_FOUR
  const hn::ScalableTag<float> d;
  done = ForEachSquare(n, classes, [&](std::int64_t i, std::int64_t c) HWY_ATTR {
    const float* from = columns + c * column_stride + i;
    Squares<decltype(d)> s{hn::LoadU(d, from), hn::LoadU(d, from + column_stride),
                           hn::LoadU(d, from + 2 * column_stride),
                           hn::LoadU(d, from + 3 * column_stride)};
    s.Transpose(d);
    float* to = rows + i * row_stride + c;
    StoreBlocks(d, s.v0, to, row_stride);
    StoreBlocks(d, s.v1, to + row_stride, row_stride);
    StoreBlocks(d, s.v2, to + 2 * row_stride, row_stride);
    StoreBlocks(d, s.v3, to + 3 * row_stride, row_stride);
  });
#endif
  Plain(columns + done, classes, n - done, column_stride, rows + done * row_stride, row_stride);
}
#undef OOD_BLOCKS_OF_FOUR

void RowsToColumnsF64(const double* rows, std::int64_t n, std::int64_t classes,
                      std::int64_t row_stride, double* columns, std::int64_t column_stride) {
  Plain(rows, n, classes, row_stride, columns, column_stride);
}
void ColumnsToRowsF64(const double* columns, std::int64_t n, std::int64_t classes,
                      std::int64_t column_stride, double* rows, std::int64_t row_stride) {
  Plain(columns, classes, n, column_stride, rows, row_stride);
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(RowsToColumnsF32);
HWY_EXPORT(RowsToColumnsF64);
HWY_EXPORT(ColumnsToRowsF32);
HWY_EXPORT(ColumnsToRowsF64);

#define OOD_DISPATCH(f) HWY_DISPATCH_TABLE(f)[simd_table_index()]

void rows_to_columns(const float* rows, std::int64_t n, std::int64_t classes,
                     std::int64_t row_stride, float* columns, std::int64_t column_stride) {
  OOD_DISPATCH(RowsToColumnsF32)(rows, n, classes, row_stride, columns, column_stride);
}
void rows_to_columns(const double* rows, std::int64_t n, std::int64_t classes,
                     std::int64_t row_stride, double* columns, std::int64_t column_stride) {
  OOD_DISPATCH(RowsToColumnsF64)(rows, n, classes, row_stride, columns, column_stride);
}
void columns_to_rows(const float* columns, std::int64_t n, std::int64_t classes,
                     std::int64_t column_stride, float* rows, std::int64_t row_stride) {
  OOD_DISPATCH(ColumnsToRowsF32)(columns, n, classes, column_stride, rows, row_stride);
}
void columns_to_rows(const double* columns, std::int64_t n, std::int64_t classes,
                     std::int64_t column_stride, double* rows, std::int64_t row_stride) {
  OOD_DISPATCH(ColumnsToRowsF64)(columns, n, classes, column_stride, rows, row_stride);
}

}  // namespace ood::kernels
#endif
