#include "ood/kernels/columns.h"

#include <algorithm>
#include <limits>

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/columns.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "ood/kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Samples that are worked on at a time: class by class, so that memory is read in long runs, with
// sums that stay in the first cache.
constexpr std::int64_t kRun = 512;

// Calls body(i, n) for every vector of a run; n < Lanes for the last one.
template <class D, class Body>
HWY_INLINE void ForEachVector(D d, std::int64_t samples, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= samples; i += lanes) body(i, hn::Lanes(d));
  if (i < samples) body(i, static_cast<std::size_t>(samples - i));
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadN(D d, const T* from, std::size_t n) {
  return n == hn::Lanes(d) ? hn::LoadU(d, from) : LoadTail(d, from, n);
}
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void StoreN(D d, hn::Vec<D> v, T* to, std::size_t n) {
  n == hn::Lanes(d) ? hn::StoreU(v, d, to) : StoreTail(d, v, to, n);
}

// 1 or 0 a sample, padded so that whole vectors can be loaded.
template <class T>
struct ActiveRun {
  HWY_ALIGN T on[kRun + HWY_MAX_BYTES / sizeof(T)];
  bool all = true;

  HWY_INLINE ActiveRun(const std::uint8_t* active, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const bool is = active == nullptr || active[i];
      on[i] = is ? T{1} : T{0};
      all = all && is;
    }
  }
  template <class D>
  HWY_INLINE hn::Mask<D> Mask(D d, std::int64_t i) const {
    return hn::Gt(hn::LoadU(d, on + i), hn::Zero(d));
  }
};

template <class T, bool kScaled, bool kInner>
HWY_INLINE void StatisticsRun(const T* data, const T* scale, const std::uint8_t* on,
                              std::int64_t samples, const Columns<T>& c,
                              const RowStatistics<T>& out) {
  const hn::ScalableTag<T> d;
  const auto infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
  const auto per_class = hn::Set(d, T{1} / static_cast<T>(c.classes));
  const ActiveRun<T> active(on, samples);
  constexpr std::int64_t kPadded = kRun + HWY_MAX_BYTES / sizeof(T);
  HWY_ALIGN T max[kPadded], sum[kPadded], relative[kPadded], inner[kPadded];
  const auto infinite = hn::Neg(infinity);
  ForEachVector(d, samples, [&](std::int64_t i, std::size_t) HWY_ATTR {
    hn::StoreU(infinite, d, max + i);
    hn::StoreU(hn::Zero(d), d, sum + i);
    hn::StoreU(hn::Zero(d), d, relative + i);
    if (kInner) hn::StoreU(hn::Zero(d), d, inner + i);
  });
  for (std::int64_t j = 0; j < c.classes; ++j) {
    const T* x = data + j * c.class_stride;
    // Each class starts a new stream of memory, which no hardware foresees.
    const T* next = j + 1 < c.classes ? x + c.class_stride : data + samples;
    ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
      hwy::Prefetch(next + i);
      hn::StoreU(hn::Max(hn::LoadU(d, max + i), LoadN(d, x + i, n)), d, max + i);
    });
  }
  for (std::int64_t j = 0; j < c.classes; ++j) {
    const T* x = data + j * c.class_stride;
    ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
      Summer<T, kScaled, kInner> s(kScaled ? LoadN(d, scale + i, n) : hn::Zero(d),
                                   hn::LoadU(d, max + i));
      s.exp = hn::LoadU(d, sum + i);
      s.relative = hn::LoadU(d, relative + i);
      if (kInner) s.inner = hn::LoadU(d, inner + i);
      s.Add(LoadN(d, x + i, n));
      hn::StoreU(s.exp, d, sum + i);
      hn::StoreU(s.relative, d, relative + i);
      if (kInner) hn::StoreU(s.inner, d, inner + i);
    });
  }
  ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
    const auto m = hn::LoadU(d, max + i), e = hn::LoadU(d, sum + i), r = hn::LoadU(d, relative + i);
    // As for rows: only the plain sum shows a NaN.
    const auto bad = hn::Or(hn::IsNaN(r), hn::Eq(hn::Abs(m), infinity));
    const auto mask = active.Mask(d, i);
    const auto finish = [&](hn::Vec<decltype(d)> v, T* to) HWY_ATTR {
      if (to != nullptr)
        StoreN(d, hn::IfThenElseZero(mask, hn::IfThenElse(bad, nan, v)), to + i, n);
    };
    finish(m, out.max);
    finish(hn::Log(d, e), out.log_sum);
    finish(hn::Mul(r, per_class), out.mean);
    if (kInner) finish(hn::Div(hn::LoadU(d, inner + i), e), out.expected);
  });
}

template <class T>
HWY_INLINE T* Advance(T* p, std::int64_t n) {
  return p == nullptr ? nullptr : p + n;
}

template <class T>
HWY_INLINE void StatisticsAny(const Columns<T>& c, const RowStatistics<T>& o) {
  for (std::int64_t i = 0; i < c.samples; i += kRun) {
    const std::int64_t n = std::min(kRun, c.samples - i);
    const RowStatistics<T> out{o.max + i, o.log_sum + i, Advance(o.mean, i),
                               Advance(o.expected, i)};
    const T* data = c.data + i;
    const T* scale = Advance(c.scale, i);
    const std::uint8_t* on = Advance(c.active, i);
    if (scale == nullptr)
      out.expected == nullptr ? StatisticsRun<T, false, false>(data, scale, on, n, c, out)
                              : StatisticsRun<T, false, true>(data, scale, on, n, c, out);
    else
      out.expected == nullptr ? StatisticsRun<T, true, false>(data, scale, on, n, c, out)
                              : StatisticsRun<T, true, true>(data, scale, on, n, c, out);
  }
}

template <class T>
HWY_INLINE void SquareNorms(const Columns<T>& c, T* out) {
  const hn::ScalableTag<T> d;
  for (std::int64_t first = 0; first < c.samples; first += kRun) {
    const std::int64_t samples = std::min(kRun, c.samples - first);
    const ActiveRun<T> active(Advance(c.active, first), samples);
    ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (std::int64_t j = 0; j < c.classes; ++j) {
        const auto x = LoadN(d, c.data + j * c.class_stride + first + i, n);
        sum = hn::MulAdd(x, x, sum);
      }
      StoreN(d, hn::IfThenElseZero(active.Mask(d, i), sum), out + first + i, n);
    });
  }
}

template <class T, bool kScaled, bool kInput>
HWY_INLINE void GradientRun(const Columns<T>& c, std::int64_t first, std::int64_t samples,
                            const RowCoefficients<T>& k, T* grad, std::int64_t grad_stride) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d);
  const ActiveRun<T> active(Advance(c.active, first), samples);
  for (std::int64_t j = 0; j < c.classes; ++j) {
    const T* x_row = c.data + j * c.class_stride + first;
    T* to = grad + j * grad_stride + first;
    const T* next = j + 1 < c.classes ? x_row + c.class_stride : c.data + first + samples;
    ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
      hwy::Prefetch(next + i);
      const std::int64_t at = first + i;
      const auto log_sum = LoadN(d, k.log_sum + at, n);
      const auto a = hn::IfThenElse(hn::IsNaN(log_sum), log_sum, LoadN(d, k.a + at, n));
      const Gradient<T, kScaled, false> g{d,
                                          kScaled ? LoadN(d, c.scale + at, n) : zero,
                                          LoadN(d, k.max + at, n),
                                          log_sum,
                                          a,
                                          LoadN(d, k.b + at, n),
                                          zero};
      const auto x = LoadN(d, x_row + i, n);
      auto v = g(x);
      if (kInput) {
        // 0 times the -inf of a masked class is not 0.
        const auto input = LoadN(d, k.d + at, n);
        v = hn::Add(v, hn::IfThenElseZero(hn::Ne(input, zero), hn::Mul(input, x)));
      }
      StoreN(d, active.all ? v : hn::IfThenElseZero(active.Mask(d, i), v), to + i, n);
    });
  }
}

template <class T>
HWY_INLINE void GradientAny(const Columns<T>& c, const RowCoefficients<T>& k, T* grad,
                            std::int64_t s) {
  for (std::int64_t i = 0; i < c.samples; i += kRun) {
    const std::int64_t n = std::min(kRun, c.samples - i);
    if (c.scale != nullptr)
      GradientRun<T, true, true>(c, i, n, k, grad, s);
    else if (k.d != nullptr)
      GradientRun<T, false, true>(c, i, n, k, grad, s);
    else
      GradientRun<T, false, false>(c, i, n, k, grad, s);
  }
}

void ColumnStatisticsF32(const Columns<float>& c, const RowStatistics<float>& o) {
  StatisticsAny(c, o);
}
void ColumnStatisticsF64(const Columns<double>& c, const RowStatistics<double>& o) {
  StatisticsAny(c, o);
}
void ColumnNormsF32(const Columns<float>& c, float* o) { SquareNorms(c, o); }
void ColumnNormsF64(const Columns<double>& c, double* o) { SquareNorms(c, o); }
void ColumnGradientF32(const Columns<float>& c, const RowCoefficients<float>& k, float* g,
                       std::int64_t s) {
  GradientAny(c, k, g, s);
}
void ColumnGradientF64(const Columns<double>& c, const RowCoefficients<double>& k, double* g,
                       std::int64_t s) {
  GradientAny(c, k, g, s);
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(ColumnStatisticsF32);
HWY_EXPORT(ColumnStatisticsF64);
HWY_EXPORT(ColumnNormsF32);
HWY_EXPORT(ColumnNormsF64);
HWY_EXPORT(ColumnGradientF32);
HWY_EXPORT(ColumnGradientF64);

#define OOD_DISPATCH(f) HWY_DISPATCH_TABLE(f)[simd_table_index()]

void column_statistics(const Columns<float>& c, const RowStatistics<float>& o) {
  OOD_DISPATCH(ColumnStatisticsF32)(c, o);
}
void column_statistics(const Columns<double>& c, const RowStatistics<double>& o) {
  OOD_DISPATCH(ColumnStatisticsF64)(c, o);
}
void column_square_norms(const Columns<float>& c, float* o) { OOD_DISPATCH(ColumnNormsF32)(c, o); }
void column_square_norms(const Columns<double>& c, double* o) {
  OOD_DISPATCH(ColumnNormsF64)(c, o);
}
void column_gradient(const Columns<float>& c, const RowCoefficients<float>& k, float* g,
                     std::int64_t s) {
  OOD_DISPATCH(ColumnGradientF32)(c, k, g, s);
}
void column_gradient(const Columns<double>& c, const RowCoefficients<double>& k, double* g,
                     std::int64_t s) {
  OOD_DISPATCH(ColumnGradientF64)(c, k, g, s);
}

}  // namespace ood::kernels
#endif
