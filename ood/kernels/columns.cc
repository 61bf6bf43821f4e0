#include "ood/kernels/columns.h"

#include <limits>

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/columns.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/highway.h>

#include "ood/kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Access to the n <= Lanes samples from `first` on.
template <class T>
struct Strip {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  D d;
  std::int64_t first;
  std::size_t n;
  bool full;

  HWY_INLINE Strip(std::int64_t i, std::int64_t samples)
      : first(i),
        n(static_cast<std::size_t>(samples - i)),
        full(n >= hn::Lanes(d)) {
    if (full) n = hn::Lanes(d);
  }
  HWY_INLINE V Load(const T* from) const {
    return full ? hn::LoadU(d, from + first) : LoadTail(d, from + first, n);
  }
  HWY_INLINE void Store(V v, T* to) const {
    if (full)
      hn::StoreU(v, d, to + first);
    else
      StoreTail(d, v, to + first, n);
  }
  HWY_INLINE hn::Mask<D> Active(const std::uint8_t* active) const {
    HWY_ALIGN T on[HWY_MAX_BYTES / sizeof(T)] = {};
    for (std::size_t k = 0; k < n; ++k) on[k] = active == nullptr || active[first + k] ? T{1} : T{0};
    return hn::Gt(hn::Load(d, on), hn::Zero(d));
  }
};

template <class T, bool kScaled, bool kInner>
HWY_INLINE void Statistics(const Columns<T>& c, const RowStatistics<T>& out) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d), infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
  const auto classes = hn::Set(d, static_cast<T>(c.classes));
  for (std::int64_t i = 0; i < c.samples; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const Strip<T> strip(i, c.samples);
    auto max = hn::Neg(infinity);
    for (std::int64_t j = 0; j < c.classes; ++j)
      max = hn::Max(max, strip.Load(c.data + j * c.class_stride));
    Summer<T, kScaled, kInner> sum(kScaled ? strip.Load(c.scale) : zero, max);
    for (std::int64_t j = 0; j < c.classes; ++j) sum.Add(strip.Load(c.data + j * c.class_stride));
    // As for rows: only the plain sum shows a NaN.
    const auto bad = hn::Or(hn::IsNaN(sum.relative), hn::Eq(hn::Abs(max), infinity));
    const auto active = strip.Active(c.active);
    const auto finish = [&](hn::Vec<decltype(d)> v) HWY_ATTR {
      return hn::IfThenElseZero(active, hn::IfThenElse(bad, nan, v));
    };
    strip.Store(finish(max), out.max);
    strip.Store(finish(hn::Log(d, sum.exp)), out.log_sum);
    if (out.mean != nullptr) strip.Store(finish(hn::Div(sum.relative, classes)), out.mean);
    if (kInner) strip.Store(finish(hn::Div(sum.inner, sum.exp)), out.expected);
  }
}

template <class T>
HWY_INLINE void StatisticsAny(const Columns<T>& c, const RowStatistics<T>& out) {
  if (c.scale == nullptr)
    out.expected == nullptr ? Statistics<T, false, false>(c, out)
                            : Statistics<T, false, true>(c, out);
  else
    out.expected == nullptr ? Statistics<T, true, false>(c, out)
                            : Statistics<T, true, true>(c, out);
}

template <class T>
HWY_INLINE void SquareNorms(const Columns<T>& c, T* out) {
  const hn::ScalableTag<T> d;
  for (std::int64_t i = 0; i < c.samples; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const Strip<T> strip(i, c.samples);
    auto sum = hn::Zero(d);
    for (std::int64_t j = 0; j < c.classes; ++j) {
      const auto x = strip.Load(c.data + j * c.class_stride);
      sum = hn::MulAdd(x, x, sum);
    }
    strip.Store(hn::IfThenElseZero(strip.Active(c.active), sum), out);
  }
}

template <class T, bool kScaled, bool kInput>
HWY_INLINE void GradientOf(const Columns<T>& c, const RowCoefficients<T>& k, T* grad,
                           std::int64_t grad_stride) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d);
  for (std::int64_t i = 0; i < c.samples; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const Strip<T> strip(i, c.samples);
    const auto log_sum = strip.Load(k.log_sum);
    const auto a = hn::IfThenElse(hn::IsNaN(log_sum), log_sum, strip.Load(k.a));
    const auto input = kInput ? strip.Load(k.d) : zero;
    const Gradient<T, kScaled, false> g{d, kScaled ? strip.Load(c.scale) : zero, strip.Load(k.max),
                                        log_sum, a, strip.Load(k.b), input};
    const auto active = strip.Active(c.active);
    const auto uses_input = hn::Ne(input, zero);
    for (std::int64_t j = 0; j < c.classes; ++j) {
      const auto x = strip.Load(c.data + j * c.class_stride);
      auto v = g(x);
      // 0 times the -inf of a masked class is not 0.
      if (kInput) v = hn::Add(v, hn::IfThenElseZero(uses_input, hn::Mul(input, x)));
      strip.Store(hn::IfThenElseZero(active, v), grad + j * grad_stride);
    }
  }
}

template <class T>
HWY_INLINE void GradientAny(const Columns<T>& c, const RowCoefficients<T>& k, T* grad,
                            std::int64_t s) {
  if (c.scale != nullptr)
    GradientOf<T, true, true>(c, k, grad, s);
  else if (k.d != nullptr)
    GradientOf<T, false, true>(c, k, grad, s);
  else
    GradientOf<T, false, false>(c, k, grad, s);
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
