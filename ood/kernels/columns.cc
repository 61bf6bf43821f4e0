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
constexpr std::int64_t kRun = 256;
// Classes of the next run that are fetched while this one is computed. Images have sides that are
// powers of two, so classes share a set of the cache, which holds 8 to 16 lines.
constexpr std::int64_t kAhead = 12;
constexpr std::size_t kLine = 64;  // bytes of a line of the cache

// Vectors whose sums are kept in registers, of which there are 16 before AVX-512.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kSummed = 2;
#else
constexpr int kSummed = 4;
#endif

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

// The labels of a run as numbers. Padded so that whole vectors can be loaded.
template <class T>
struct RunLabels {
  static constexpr std::int64_t kPadded = kRun + HWY_MAX_BYTES / sizeof(T);
  HWY_ALIGN T label[kPadded];

  HWY_INLINE RunLabels(const std::int32_t* labels, std::int64_t n) {
    if (labels == nullptr) {
      for (std::int64_t i = 0; i < n; ++i) label[i] = static_cast<T>(kNoClass);
    } else {
      for (std::int64_t i = 0; i < n; ++i) label[i] = static_cast<T>(labels[i]);
    }
  }
  template <class D>
  HWY_INLINE hn::Vec<D> Label(D d, std::int64_t i) const {
    return hn::LoadU(d, label + i);
  }
  // Which samples take part.
  template <class D>
  HWY_INLINE hn::Mask<D> Mask(D d, std::int64_t i) const {
    return hn::Ne(Label(d, i), hn::Set(d, static_cast<hn::TFromD<D>>(kNoPart)));
  }
};

// What the sums of a run are made of. `exp` holds the logits and then exp r: the run, class by
// class, without the distance between classes, which is often a power of two, so that they would
// compete for the same lines of the cache.
template <class T>
struct Run {
  const T* next;  // class 0 of the next run
  std::int64_t class_stride;
  const T* scale;
  std::int64_t samples, classes;
  const RowStatistics<T>& out;
  const RunLabels<T>& labels;
  const T* max;
};

// The sums of kVectors vectors of samples from sample i on; they stay in registers over all
// classes. n < Lanes only with one vector.
template <class T, bool kScaled, bool kInner, int kVectors>
HWY_INLINE void SumVectors(const Run<T>& run, std::int64_t i, std::size_t n) {
  const hn::ScalableTag<T> d;
  using S = Summer<T, kScaled, kInner>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto summer = [&](std::int64_t v) HWY_ATTR {
    const std::int64_t at = i + v * lanes;
    return S(kScaled ? LoadN(d, run.scale + at, n) : hn::Zero(d), hn::LoadU(d, run.max + at));
  };
  const auto label_of = [&](std::int64_t v) HWY_ATTR { return run.labels.Label(d, i + v * lanes); };
  S sums[4] = {summer(0), summer(kVectors > 1 ? 1 : 0), summer(kVectors > 2 ? 2 : 0),
               summer(kVectors > 2 ? 3 : 0)};
  const auto zero = hn::Zero(d);
  hn::Vec<decltype(d)> target[4] = {zero, zero, zero, zero};
  hn::Vec<decltype(d)> label[4] = {label_of(0), label_of(kVectors > 1 ? 1 : 0),
                                   label_of(kVectors > 2 ? 2 : 0), label_of(kVectors > 2 ? 3 : 0)};
  T* exp = run.out.exp + i;
  const T* next = run.next + i;
  for (std::int64_t j = 0; j < run.classes; ++j, exp += run.out.exp_stride) {
    const auto this_class = hn::Set(d, static_cast<T>(j));
    for (int v = 0; v < kVectors; ++v) {
      // While this run is computed, the next one comes from memory.
      if (j < kAhead) hwy::Prefetch(next + v * lanes);
      const auto x = LoadN(d, exp + v * lanes, n);
      target[v] = hn::IfThenElse(hn::Eq(label[v], this_class), sums[v].Relative(x), target[v]);
      StoreN(d, sums[v].Add(x), exp + v * lanes, n);
    }
    next += run.class_stride;
  }
  const auto infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
  const auto per_class = hn::Set(d, T{1} / static_cast<T>(run.classes));
  for (int v = 0; v < kVectors; ++v) {
    const S& s = sums[v];
    // As for rows: only the plain sum shows a NaN.
    const auto bad = hn::Or(hn::IsNaN(s.relative), hn::Eq(hn::Abs(s.max), infinity));
    const std::int64_t at = i + v * lanes;
    const auto mask = run.labels.Mask(d, at);
    const auto finish = [&](hn::Vec<decltype(d)> value, T* to) HWY_ATTR {
      if (to != nullptr)
        StoreN(d, hn::IfThenElseZero(mask, hn::IfThenElse(bad, nan, value)), to + at, n);
    };
    finish(s.max, run.out.max);
    finish(hn::Log(d, s.exp), run.out.log_sum);
    finish(hn::Mul(s.relative, per_class), run.out.mean);
    if (kInner) finish(hn::Div(s.inner, s.exp), run.out.expected);
    finish(target[v], run.out.target);
  }
}

template <class T, bool kScaled, bool kInner>
HWY_INLINE void StatisticsRun(const T* data, const T* scale, const RunLabels<T>& labels,
                              std::int64_t samples, const Columns<T>& c,
                              const RowStatistics<T>& out) {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T max[RunLabels<T>::kPadded];
  const auto lowest = hn::Set(d, -std::numeric_limits<T>::infinity());
  ForEachVector(d, samples,
                [&](std::int64_t i, std::size_t) HWY_ATTR { hn::StoreU(lowest, d, max + i); });
  const bool in_place = out.exp == data;
  // Two classes at a time: half as many trips of the maxima through memory.
  for (std::int64_t j = 0; j < c.classes; j += 2) {
    const std::int64_t other =
        std::min(j + 1, c.classes - 1) - j;  // 0 for the last of an odd number
    const T* x = data + j * c.class_stride;
    T* copy = out.exp + j * out.exp_stride;
    const bool fetch = j + 2 >= kAhead && j + 3 < c.classes;
    ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
      if (fetch) {
        hwy::Prefetch(x + 2 * c.class_stride + i);
        hwy::Prefetch(x + 3 * c.class_stride + i);
      }
      const auto v = LoadN(d, x + i, n), w = LoadN(d, x + other * c.class_stride + i, n);
      hn::StoreU(hn::Max(hn::Max(hn::LoadU(d, max + i), v), w), d, max + i);
      if (in_place) return;
      StoreN(d, v, copy + i, n);
      StoreN(d, w, copy + other * out.exp_stride + i, n);
    });
  }
  const Run<T> run{data + samples, c.class_stride, scale, samples, c.classes, out, labels, max};
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + kSummed * lanes <= samples; i += kSummed * lanes)
    SumVectors<T, kScaled, kInner, kSummed>(run, i, hn::Lanes(d));
  for (; i < samples; i += lanes)
    SumVectors<T, kScaled, kInner, 1>(run, i,
                                      static_cast<std::size_t>(std::min(lanes, samples - i)));
}

template <class T>
HWY_INLINE T* Advance(T* p, std::int64_t n) {
  return p == nullptr ? nullptr : p + n;
}

template <class T, bool kScaled, bool kInner>
HWY_INLINE void StatisticsRuns(const Columns<T>& c, const RowStatistics<T>& o) {
  for (std::int64_t i = 0; i < c.samples; i += kRun) {
    const std::int64_t n = std::min(kRun, c.samples - i);
    const RowStatistics<T> out{
        o.max + i, o.log_sum + i, Advance(o.mean, i), Advance(o.expected, i), Advance(o.target, i),
        o.exp + i, o.exp_stride};
    const RunLabels<T> labels(Advance(c.label, i), n);
    StatisticsRun<T, kScaled, kInner>(c.data + i, Advance(c.scale, i), labels, n, c, out);
  }
}

template <class T>
HWY_INLINE void StatisticsAny(const Columns<T>& c, const RowStatistics<T>& out) {
  if (c.scale == nullptr)
    out.expected == nullptr ? StatisticsRuns<T, false, false>(c, out)
                            : StatisticsRuns<T, false, true>(c, out);
  else
    out.expected == nullptr ? StatisticsRuns<T, true, false>(c, out)
                            : StatisticsRuns<T, true, true>(c, out);
}

template <class T>
HWY_INLINE void SquareNorms(const Columns<T>& c, T* out) {
  const hn::ScalableTag<T> d;
  for (std::int64_t first = 0; first < c.samples; first += kRun) {
    const std::int64_t samples = std::min(kRun, c.samples - first);
    const RunLabels<T> labels(Advance(c.label, first), samples);
    ForEachVector(d, samples, [&](std::int64_t i, std::size_t n) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (std::int64_t j = 0; j < c.classes; ++j) {
        const auto x = LoadN(d, c.data + j * c.class_stride + first + i, n);
        sum = hn::MulAdd(x, x, sum);
      }
      StoreN(d, hn::IfThenElseZero(labels.Mask(d, i), sum), out + first + i, n);
    });
  }
}

// v + c where the class j is the label's.
template <class D, class V>
HWY_INLINE V AddAtLabel(D d, V v, V label, std::int64_t j, V c) {
  const auto is_label = hn::Eq(label, hn::Set(d, static_cast<hn::TFromD<D>>(j)));
  return hn::Add(v, hn::IfThenElseZero(is_label, c));
}

template <class T, bool kScaled, bool kInput>
HWY_INLINE void GradientRun(const Columns<T>& c, std::int64_t first, std::int64_t samples,
                            const RowCoefficients<T>& k, T* grad, std::int64_t grad_stride) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d);
  const RunLabels<T> labels(Advance(c.label, first), samples);
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
      if (k.c != nullptr) v = AddAtLabel(d, v, labels.Label(d, i), j, LoadN(d, k.c + at, n));
      StoreN(d, hn::IfThenElseZero(labels.Mask(d, i), v), to + i, n);
    });
  }
}

// The gradient of kVectors vectors of samples from `first` on, from exp r; what is common to the
// classes stays in registers. n < Lanes only with one vector.
template <class T, bool kInput, int kVectors>
HWY_INLINE void GradientOfExp(const Columns<T>& c, std::int64_t first, std::size_t n,
                              const RunLabels<T>& labels, std::int64_t in_run,
                              const RowCoefficients<T>& k, T* grad, std::int64_t grad_stride) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto zero = hn::Zero(d);
  V factor[4] = {zero, zero, zero, zero}, offset[4] = {zero, zero, zero, zero};
  V at_label[4] = {zero, zero, zero, zero}, label[4] = {zero, zero, zero, zero};
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t at = first + v * lanes;
    const auto mask = labels.Mask(d, in_run + v * lanes);
    const auto log_sum = LoadN(d, k.log_sum + at, n);
    const auto a = hn::IfThenElse(hn::IsNaN(log_sum), log_sum, LoadN(d, k.a + at, n));
    factor[v] = hn::IfThenElseZero(mask, hn::Mul(a, ExpNonPositive(d, hn::Neg(log_sum))));
    offset[v] = hn::IfThenElseZero(mask, LoadN(d, k.b + at, n));
    at_label[v] = k.c == nullptr ? zero : hn::IfThenElseZero(mask, LoadN(d, k.c + at, n));
    label[v] = labels.Label(d, in_run + v * lanes);
  }
  const T *exp = k.exp + first, *x = c.data + first;
  T* to = grad + first;
  // A line that is written as a whole need not be read first, where it was not read just now.
  const auto places =
      reinterpret_cast<std::uintptr_t>(to) | static_cast<std::uintptr_t>(grad_stride) * sizeof(T);
  const bool stream =
      to != exp && n == hn::Lanes(d) && kVectors * sizeof(V) % kLine == 0 && places % kLine == 0;
  const auto no_part = hn::Set(d, static_cast<T>(kNoPart));
  for (std::int64_t j = 0; j < c.classes; ++j) {
    for (int v = 0; v < kVectors; ++v) {
      auto g = hn::MulAdd(factor[v], LoadN(d, exp + v * lanes, n), offset[v]);
      g = AddAtLabel(d, g, label[v], j, at_label[v]);
      if (kInput) {
        const auto input = LoadN(d, k.d + first + v * lanes, n);
        g = hn::Add(
            g, hn::IfThenElseZero(hn::Ne(input, zero), hn::Mul(input, LoadN(d, x + v * lanes, n))));
      }
      // exp of a sample that takes no part may be anything.
      g = hn::IfThenElseZero(hn::Ne(label[v], no_part), g);
      if (stream)
        hn::Stream(g, d, to + v * lanes);
      else
        StoreN(d, g, to + v * lanes, n);
    }
    exp += k.exp_stride;
    x += c.class_stride;
    to += grad_stride;
  }
}

template <class T, bool kInput>
HWY_INLINE void GradientRunOfExp(const Columns<T>& c, std::int64_t first, std::int64_t samples,
                                 const RowCoefficients<T>& k, T* grad, std::int64_t grad_stride) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const RunLabels<T> labels(Advance(c.label, first), samples);
  std::int64_t i = 0;
  for (; i + 4 * lanes <= samples; i += 4 * lanes)
    GradientOfExp<T, kInput, 4>(c, first + i, hn::Lanes(d), labels, i, k, grad, grad_stride);
  for (; i < samples; i += lanes)
    GradientOfExp<T, kInput, 1>(c, first + i,
                                static_cast<std::size_t>(std::min(lanes, samples - i)), labels, i,
                                k, grad, grad_stride);
}

template <class T>
HWY_INLINE void GradientAny(const Columns<T>& c, const RowCoefficients<T>& k, T* grad,
                            std::int64_t s) {
  for (std::int64_t i = 0; i < c.samples; i += kRun) {
    const std::int64_t n = std::min(kRun, c.samples - i);
    if (k.exp != nullptr)
      k.d != nullptr ? GradientRunOfExp<T, true>(c, i, n, k, grad, s)
                     : GradientRunOfExp<T, false>(c, i, n, k, grad, s);
    else if (c.scale != nullptr)
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
