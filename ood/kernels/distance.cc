#include "ood/kernels/distance.h"

#include <algorithm>
#include <type_traits>

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/distance.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/highway.h>

#include "ood/kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What a vector register holds is used several times: the loads, not the arithmetic, would be the
// limit otherwise. Sixteen sums and their operands need 32 registers.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kTileRows = 2;
#else
constexpr int kTileRows = 4;
#endif
constexpr int kTileColumns = 4;

// The distances of kRows (1, 2 or 4) rows of a to kColumns (1 or 4) rows of b. Every distance is
// summed in the same order, whatever its place in a tile: equal rows have equal distances.
template <int kRows, int kColumns, class T>
HWY_INLINE void Tile(const T* a, const T* b, std::int64_t width, T* out, std::int64_t out_stride) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const T *a1 = a + (kRows > 1 ? width : 0), *a2 = a + (kRows > 2 ? 2 * width : 0),
          *a3 = a + (kRows > 2 ? 3 * width : 0);
  const std::int64_t next = kColumns > 1 ? width : 0;
  const T *b1 = b + next, *b2 = b1 + next, *b3 = b2 + next;
  const auto zero = hn::Zero(d);
  auto s00 = zero, s01 = zero, s02 = zero, s03 = zero;
  auto s10 = zero, s11 = zero, s12 = zero, s13 = zero;
  auto s20 = zero, s21 = zero, s22 = zero, s23 = zero;
  auto s30 = zero, s31 = zero, s32 = zero, s33 = zero;
  const auto add = [](auto x, auto y, auto& sum) HWY_ATTR {
    const auto e = hn::Sub(x, y);
    sum = hn::MulAdd(e, e, sum);
  };
  const auto step = [&](auto load) HWY_ATTR {
    const auto y0 = load(b), y1 = load(b1), y2 = load(b2), y3 = load(b3);
    const auto row = [&](auto x, auto& t0, auto& t1, auto& t2, auto& t3) HWY_ATTR {
      add(x, y0, t0);
      if constexpr (kColumns > 1) {
        add(x, y1, t1);
        add(x, y2, t2);
        add(x, y3, t3);
      }
    };
    row(load(a), s00, s01, s02, s03);
    if constexpr (kRows > 1) row(load(a1), s10, s11, s12, s13);
    if constexpr (kRows > 2) row(load(a2), s20, s21, s22, s23);
    if constexpr (kRows > 2) row(load(a3), s30, s31, s32, s33);
  };
  std::int64_t k = 0;
  for (; k + lanes <= width; k += lanes)
    step([&](const T* from) HWY_ATTR { return hn::LoadU(d, from + k); });
  if (const auto left = static_cast<std::size_t>(width - k); left > 0)
    step([&](const T* from) HWY_ATTR { return LoadTail(d, from + k, left); });
  const auto store = [&](T* to, auto t0, auto t1, auto t2, auto t3) HWY_ATTR {
    to[0] = hn::GetLane(hn::SumOfLanes(d, t0));
    if constexpr (kColumns > 1) {
      to[1] = hn::GetLane(hn::SumOfLanes(d, t1));
      to[2] = hn::GetLane(hn::SumOfLanes(d, t2));
      to[3] = hn::GetLane(hn::SumOfLanes(d, t3));
    }
  };
  store(out, s00, s01, s02, s03);
  if constexpr (kRows > 1) store(out + out_stride, s10, s11, s12, s13);
  if constexpr (kRows > 2) store(out + 2 * out_stride, s20, s21, s22, s23);
  if constexpr (kRows > 2) store(out + 3 * out_stride, s30, s31, s32, s33);
}

// Blocks of b stay in the first cache for a block of a, which stays in the second.
template <class T>
HWY_INLINE void SquareDistances(const T* a, std::int64_t n, const T* b, std::int64_t m,
                                std::int64_t width, T* out, std::int64_t out_stride) {
  const std::int64_t bytes =
      std::max<std::int64_t>(width, 1) * static_cast<std::int64_t>(sizeof(T));
  const auto rows_in = [&](std::int64_t cache) {
    return std::max<std::int64_t>(kTileColumns, cache / bytes / kTileColumns * kTileColumns);
  };
  const std::int64_t high = rows_in(128 * 1024), wide = rows_in(24 * 1024);
  for (std::int64_t top = 0; top < n; top += high) {
    const std::int64_t bottom = std::min(top + high, n);
    for (std::int64_t first = 0; first < m; first += wide) {
      const std::int64_t last = std::min(first + wide, m);
      const std::int64_t tiled = first + (last - first) / kTileColumns * kTileColumns;
      const auto rows = [&](auto tile_rows, std::int64_t i) HWY_ATTR {
        constexpr int kRows = decltype(tile_rows)::value;
        const T* x = a + i * width;
        T* to = out + i * out_stride;
        for (std::int64_t j = first; j < tiled; j += kTileColumns)
          Tile<kRows, kTileColumns>(x, b + j * width, width, to + j, out_stride);
        for (std::int64_t j = tiled; j < last; ++j)
          Tile<kRows, 1>(x, b + j * width, width, to + j, out_stride);
      };
      std::int64_t i = top;
      for (; i + kTileRows <= bottom; i += kTileRows)
        rows(std::integral_constant<int, kTileRows>(), i);
      for (; i < bottom; ++i) rows(std::integral_constant<int, 1>(), i);
    }
  }
}

template <class T>
HWY_INLINE void WeightedDifferences(const T* a, const T* b, std::int64_t m, std::int64_t width,
                                    const T* weight, const std::int64_t* index, T* out) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t k = 0;
  for (; k + 4 * lanes <= width; k += 4 * lanes) {
    const auto u0 = hn::LoadU(d, a + k), u1 = hn::LoadU(d, a + k + lanes),
               u2 = hn::LoadU(d, a + k + 2 * lanes), u3 = hn::LoadU(d, a + k + 3 * lanes);
    auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
    for (std::int64_t e = 0; e < m; ++e) {
      const auto w = hn::Set(d, weight[e]);
      const T* from = b + index[e] * width + k;
      s0 = hn::MulAdd(w, hn::Sub(u0, hn::LoadU(d, from)), s0);
      s1 = hn::MulAdd(w, hn::Sub(u1, hn::LoadU(d, from + lanes)), s1);
      s2 = hn::MulAdd(w, hn::Sub(u2, hn::LoadU(d, from + 2 * lanes)), s2);
      s3 = hn::MulAdd(w, hn::Sub(u3, hn::LoadU(d, from + 3 * lanes)), s3);
    }
    hn::StoreU(s0, d, out + k);
    hn::StoreU(s1, d, out + k + lanes);
    hn::StoreU(s2, d, out + k + 2 * lanes);
    hn::StoreU(s3, d, out + k + 3 * lanes);
  }
  while (k < width) {
    const auto n = static_cast<std::size_t>(std::min(lanes, width - k));
    const bool full = static_cast<std::int64_t>(n) == lanes;
    const auto u = full ? hn::LoadU(d, a + k) : LoadTail(d, a + k, n);
    auto s = hn::Zero(d);
    for (std::int64_t e = 0; e < m; ++e) {
      const T* from = b + index[e] * width + k;
      s = hn::MulAdd(hn::Set(d, weight[e]),
                     hn::Sub(u, full ? hn::LoadU(d, from) : LoadTail(d, from, n)), s);
    }
    full ? hn::StoreU(s, d, out + k) : StoreTail(d, s, out + k, n);
    k += static_cast<std::int64_t>(n);
  }
}

void SquareDistancesF32(const float* a, std::int64_t n, const float* b, std::int64_t m,
                        std::int64_t width, float* out, std::int64_t stride) {
  SquareDistances(a, n, b, m, width, out, stride);
}
void SquareDistancesF64(const double* a, std::int64_t n, const double* b, std::int64_t m,
                        std::int64_t width, double* out, std::int64_t stride) {
  SquareDistances(a, n, b, m, width, out, stride);
}
void WeightedDifferencesF32(const float* a, const float* b, std::int64_t m, std::int64_t width,
                            const float* w, const std::int64_t* index, float* out) {
  WeightedDifferences(a, b, m, width, w, index, out);
}
void WeightedDifferencesF64(const double* a, const double* b, std::int64_t m, std::int64_t width,
                            const double* w, const std::int64_t* index, double* out) {
  WeightedDifferences(a, b, m, width, w, index, out);
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(SquareDistancesF32);
HWY_EXPORT(SquareDistancesF64);
HWY_EXPORT(WeightedDifferencesF32);
HWY_EXPORT(WeightedDifferencesF64);

#define OOD_DISPATCH(f) HWY_DISPATCH_TABLE(f)[simd_table_index()]

void square_distances(const float* a, std::int64_t n, const float* b, std::int64_t m,
                      std::int64_t width, float* out, std::int64_t stride) {
  OOD_DISPATCH(SquareDistancesF32)(a, n, b, m, width, out, stride);
}
void square_distances(const double* a, std::int64_t n, const double* b, std::int64_t m,
                      std::int64_t width, double* out, std::int64_t stride) {
  OOD_DISPATCH(SquareDistancesF64)(a, n, b, m, width, out, stride);
}
void weighted_differences(const float* a, const float* b, std::int64_t m, std::int64_t width,
                          const float* w, const std::int64_t* index, float* out) {
  OOD_DISPATCH(WeightedDifferencesF32)(a, b, m, width, w, index, out);
}
void weighted_differences(const double* a, const double* b, std::int64_t m, std::int64_t width,
                          const double* w, const std::int64_t* index, double* out) {
  OOD_DISPATCH(WeightedDifferencesF64)(a, b, m, width, w, index, out);
}

}  // namespace ood::kernels
#endif
