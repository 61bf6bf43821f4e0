#include "ood/kernels/distance.h"

#include <algorithm>

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

template <class T>
HWY_INLINE T SquareDistance(const T* a, const T* b, std::size_t width) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 2 * lanes <= width; i += 2 * lanes) {
    const auto u = hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    const auto v = hn::Sub(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes));
    s0 = hn::MulAdd(u, u, s0);
    s1 = hn::MulAdd(v, v, s1);
  }
  if (i + lanes <= width) {
    const auto u = hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    s0 = hn::MulAdd(u, u, s0);
    i += lanes;
  }
  if (const std::size_t n = width - i; n > 0) {
    const auto u = hn::Sub(LoadTail(d, a + i, n), LoadTail(d, b + i, n));
    s1 = hn::MulAdd(u, u, s1);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
}

// Four rows of b at a time share the loads of a; blocks of b stay in the second cache for all rows
// of a.
template <class T>
HWY_INLINE void SquareDistances(const T* a, std::int64_t n, const T* b, std::int64_t m,
                                std::int64_t width, T* out, std::int64_t out_stride) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t block = std::max<std::int64_t>(
      4, 128 * 1024 / (std::max<std::int64_t>(width, 1) * static_cast<std::int64_t>(sizeof(T))) /
             4 * 4);
  for (std::int64_t first = 0; first < m; first += block) {
    const std::int64_t last = std::min(first + block, m);
    for (std::int64_t i = 0; i < n; ++i) {
      const T* x = a + i * width;
      std::int64_t j = first;
      for (; j + 4 <= last; j += 4) {
        const T *p = b + j * width, *q = p + width, *r = q + width, *s = r + width;
        auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
        std::int64_t k = 0;
        for (; k + lanes <= width; k += lanes) {
          const auto v = hn::LoadU(d, x + k);
          const auto e0 = hn::Sub(v, hn::LoadU(d, p + k)), e1 = hn::Sub(v, hn::LoadU(d, q + k));
          const auto e2 = hn::Sub(v, hn::LoadU(d, r + k)), e3 = hn::Sub(v, hn::LoadU(d, s + k));
          s0 = hn::MulAdd(e0, e0, s0);
          s1 = hn::MulAdd(e1, e1, s1);
          s2 = hn::MulAdd(e2, e2, s2);
          s3 = hn::MulAdd(e3, e3, s3);
        }
        if (const auto left = static_cast<std::size_t>(width - k); left > 0) {
          const auto v = LoadTail(d, x + k, left);
          const auto e0 = hn::Sub(v, LoadTail(d, p + k, left)),
                     e1 = hn::Sub(v, LoadTail(d, q + k, left));
          const auto e2 = hn::Sub(v, LoadTail(d, r + k, left)),
                     e3 = hn::Sub(v, LoadTail(d, s + k, left));
          s0 = hn::MulAdd(e0, e0, s0);
          s1 = hn::MulAdd(e1, e1, s1);
          s2 = hn::MulAdd(e2, e2, s2);
          s3 = hn::MulAdd(e3, e3, s3);
        }
        T* to = out + i * out_stride + j;
        to[0] = hn::GetLane(hn::SumOfLanes(d, s0));
        to[1] = hn::GetLane(hn::SumOfLanes(d, s1));
        to[2] = hn::GetLane(hn::SumOfLanes(d, s2));
        to[3] = hn::GetLane(hn::SumOfLanes(d, s3));
      }
      for (; j < last; ++j)
        out[i * out_stride + j] = SquareDistance(x, b + j * width, static_cast<std::size_t>(width));
    }
  }
}

template <class T>
HWY_INLINE void WeightedDifferences(const T* a, const T* b, std::int64_t m, std::int64_t width,
                                    const T* weight, std::int64_t stride, T* out) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t k = 0;
  for (; k + 2 * lanes <= width; k += 2 * lanes) {
    const auto u = hn::LoadU(d, a + k), v = hn::LoadU(d, a + k + lanes);
    auto s = hn::Zero(d), t = hn::Zero(d);
    for (std::int64_t j = 0; j < m; ++j) {
      if (weight[j * stride] == 0) continue;
      const auto w = hn::Set(d, weight[j * stride]);
      s = hn::MulAdd(w, hn::Sub(u, hn::LoadU(d, b + j * width + k)), s);
      t = hn::MulAdd(w, hn::Sub(v, hn::LoadU(d, b + j * width + k + lanes)), t);
    }
    hn::StoreU(s, d, out + k);
    hn::StoreU(t, d, out + k + lanes);
  }
  while (k < width) {
    const auto n = static_cast<std::size_t>(std::min(lanes, width - k));
    const bool full = static_cast<std::int64_t>(n) == lanes;
    const auto u = full ? hn::LoadU(d, a + k) : LoadTail(d, a + k, n);
    auto s = hn::Zero(d);
    for (std::int64_t j = 0; j < m; ++j) {
      if (weight[j * stride] == 0) continue;
      const T* from = b + j * width + k;
      s = hn::MulAdd(hn::Set(d, weight[j * stride]),
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
                            const float* w, std::int64_t stride, float* out) {
  WeightedDifferences(a, b, m, width, w, stride, out);
}
void WeightedDifferencesF64(const double* a, const double* b, std::int64_t m, std::int64_t width,
                            const double* w, std::int64_t stride, double* out) {
  WeightedDifferences(a, b, m, width, w, stride, out);
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
                          const float* w, std::int64_t stride, float* out) {
  OOD_DISPATCH(WeightedDifferencesF32)(a, b, m, width, w, stride, out);
}
void weighted_differences(const double* a, const double* b, std::int64_t m, std::int64_t width,
                          const double* w, std::int64_t stride, double* out) {
  OOD_DISPATCH(WeightedDifferencesF64)(a, b, m, width, w, stride, out);
}

}  // namespace ood::kernels
#endif
