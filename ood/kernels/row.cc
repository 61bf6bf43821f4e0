#include "ood/kernels/row.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/row.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/highway.h>

#include "ood/kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE T RowMax(const T* x, std::size_t classes) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto lowest = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
  std::size_t i = 0;
  for (; i + 4 * lanes <= classes; i += 4 * lanes) {
    m0 = hn::Max(m0, hn::LoadU(d, x + i));
    m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
    m2 = hn::Max(m2, hn::LoadU(d, x + i + 2 * lanes));
    m3 = hn::Max(m3, hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i + lanes <= classes; i += lanes) m0 = hn::Max(m0, hn::LoadU(d, x + i));
  if (const std::size_t n = classes - i; n > 0)
    m1 = hn::Max(m1, hn::IfThenElse(hn::FirstN(d, n), LoadTail(d, x + i, n), lowest));
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3))));
}

template <class T>
struct Sums {
  T exp;       // sum exp r
  T relative;  // sum r
  T inner;     // sum r exp r, where asked for
};

template <class T, bool kScaled, bool kInner, bool kExp>
HWY_INLINE Sums<T> RowSums(const T* x, std::size_t classes, T k, T m, T* exp) {
  using S = Summer<T, kScaled, kInner>;
  const hn::ScalableTag<T> d;
  S s0(hn::Set(d, k), hn::Set(d, m)), s1(hn::Set(d, k), hn::Set(d, m));
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + 2 * lanes <= classes; i += 2 * lanes) {
    const auto e0 = s0.Add(hn::LoadU(d, x + i)), e1 = s1.Add(hn::LoadU(d, x + i + lanes));
    if (kExp) {
      hn::StoreU(e0, d, exp + i);
      hn::StoreU(e1, d, exp + i + lanes);
    }
  }
  if (i + lanes <= classes) {
    const auto e = s0.Add(hn::LoadU(d, x + i));
    if (kExp) hn::StoreU(e, d, exp + i);
    i += lanes;
  }
  if (const std::size_t n = classes - i; n > 0) {
    const auto e = s1.AddTail(LoadTail(d, x + i, n), n);
    if (kExp) StoreTail(d, e, exp + i, n);
  }
  s0.Merge(s1);
  return {hn::GetLane(hn::SumOfLanes(s0.d, s0.exp)), hn::GetLane(hn::SumOfLanes(s0.d, s0.relative)),
          kInner ? hn::GetLane(hn::SumOfLanes(s0.d, s0.inner)) : T{0}};
}

template <class T, bool kScaled, bool kInner>
HWY_INLINE void Statistics(const Rows<T>& rows, const RowStatistics<T>& out) {
  const auto classes = static_cast<std::size_t>(rows.classes);
  for (std::int64_t i = 0; i < rows.rows; ++i) {
    T max = 0, log_sum = 0, mean = 0, expected = 0, target = 0;
    if (rows.label == nullptr || rows.label[i] != kNoPart) {
      const T* x = rows.data + i * rows.stride;
      const T k = kScaled ? rows.scale[i] : T{1};
      max = RowMax(x, classes);
      const Sums<T> s =
          out.exp == nullptr
              ? RowSums<T, kScaled, kInner, false>(x, classes, k, max, nullptr)
              : RowSums<T, kScaled, kInner, true>(x, classes, k, max, out.exp + i * out.exp_stride);
      // Neither Max nor exp can be trusted with a NaN; the plain sum of the row can. A row of
      // infinite maximum has no softmax either.
      if (std::isnan(s.relative) || std::isinf(max)) {
        max = log_sum = mean = expected = target = std::numeric_limits<T>::quiet_NaN();
      } else {
        log_sum = std::log(s.exp);
        mean = s.relative / static_cast<T>(rows.classes);
        expected = kInner ? s.inner / s.exp : T{0};
        if (rows.label != nullptr && rows.label[i] >= 0) target = k * (x[rows.label[i]] - max);
      }
    }
    out.max[i] = max;
    out.log_sum[i] = log_sum;
    if (out.mean != nullptr) out.mean[i] = mean;
    if (kInner) out.expected[i] = expected;
    if (out.target != nullptr) out.target[i] = target;
  }
}

template <class T>
HWY_INLINE void StatisticsAny(const Rows<T>& rows, const RowStatistics<T>& out) {
  if (rows.scale == nullptr)
    out.expected == nullptr ? Statistics<T, false, false>(rows, out)
                            : Statistics<T, false, true>(rows, out);
  else
    out.expected == nullptr ? Statistics<T, true, false>(rows, out)
                            : Statistics<T, true, true>(rows, out);
}

template <class T>
HWY_INLINE void SquareNorms(const Rows<T>& rows, T* out) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto classes = static_cast<std::size_t>(rows.classes);
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    out[row] = 0;
    if (rows.label != nullptr && rows.label[row] == kNoPart) continue;
    const T* x = rows.data + row * rows.stride;
    auto s0 = hn::Zero(d), s1 = hn::Zero(d);
    std::size_t i = 0;
    for (; i + 2 * lanes <= classes; i += 2 * lanes) {
      const auto u = hn::LoadU(d, x + i), v = hn::LoadU(d, x + i + lanes);
      s0 = hn::MulAdd(u, u, s0);
      s1 = hn::MulAdd(v, v, s1);
    }
    for (; i < classes; i += lanes) {
      const auto v = i + lanes <= classes ? hn::LoadU(d, x + i) : LoadTail(d, x + i, classes - i);
      s0 = hn::MulAdd(v, v, s0);
    }
    out[row] = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  }
}

// From exp r. It may lie where the gradient goes.
template <class T>
HWY_INLINE void GradientOfExp(const T* x, const T* exp, T log_sum, T a, T b, T input, T* grad,
                              std::size_t classes) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, a * std::exp(-log_sum)), offset = hn::Set(d, b);
  const auto proportion = hn::Set(d, input);
  std::size_t i = 0;
  if (input == 0) {
    for (; i + lanes <= classes; i += lanes)
      hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, exp + i), offset), d, grad + i);
    if (const std::size_t n = classes - i; n > 0)
      StoreTail(d, hn::MulAdd(factor, LoadTail(d, exp + i, n), offset), grad + i, n);
    return;
  }
  for (; i < classes; i += lanes) {
    const std::size_t n = i + lanes <= classes ? lanes : classes - i;
    const auto e = n == lanes ? hn::LoadU(d, exp + i) : LoadTail(d, exp + i, n);
    const auto v = n == lanes ? hn::LoadU(d, x + i) : LoadTail(d, x + i, n);
    const auto g = hn::MulAdd(proportion, v, hn::MulAdd(factor, e, offset));
    n == lanes ? hn::StoreU(g, d, grad + i) : StoreTail(d, g, grad + i, n);
  }
}

template <class T, bool kScaled, bool kInput>
HWY_INLINE void GradientRow(const T* x, T k, T max, T log_sum, T a, T b, T input, T* grad,
                            std::size_t classes) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const Gradient<T, kScaled, kInput> g{d,
                                       hn::Set(d, k),
                                       hn::Set(d, max),
                                       hn::Set(d, log_sum),
                                       hn::Set(d, a),
                                       hn::Set(d, b),
                                       hn::Set(d, input)};
  std::size_t i = 0;
  for (; i + 2 * lanes <= classes; i += 2 * lanes) {
    const auto u = g(hn::LoadU(d, x + i)), v = g(hn::LoadU(d, x + i + lanes));
    hn::StoreU(u, d, grad + i);
    hn::StoreU(v, d, grad + i + lanes);
  }
  if (i + lanes <= classes) {
    hn::StoreU(g(hn::LoadU(d, x + i)), d, grad + i);
    i += lanes;
  }
  if (const std::size_t n = classes - i; n > 0) StoreTail(d, g(LoadTail(d, x + i, n)), grad + i, n);
}

template <class T>
HWY_INLINE void GradientAny(const Rows<T>& rows, const RowCoefficients<T>& c, T* grad,
                            std::int64_t grad_stride) {
  const auto classes = static_cast<std::size_t>(rows.classes);
  for (std::int64_t i = 0; i < rows.rows; ++i) {
    T* to = grad + i * grad_stride;
    if (rows.label != nullptr && rows.label[i] == kNoPart) {
      std::memset(to, 0, classes * sizeof(T));
      continue;
    }
    const T* x = rows.data + i * rows.stride;
    const T k = rows.scale == nullptr ? T{1} : rows.scale[i];
    // exp would swallow the NaN of log_sum, the factor a brings it back.
    const T a = std::isnan(c.log_sum[i]) ? c.log_sum[i] : c.a[i];
    const T input = c.d == nullptr ? T{0} : c.d[i];
    if (c.exp != nullptr)
      GradientOfExp<T>(x, c.exp + i * c.exp_stride, c.log_sum[i], a, c.b[i], input, to, classes);
    else if (rows.scale != nullptr)
      GradientRow<T, true, true>(x, k, c.max[i], c.log_sum[i], a, c.b[i], input, to, classes);
    else if (input != 0)
      GradientRow<T, false, true>(x, k, c.max[i], c.log_sum[i], a, c.b[i], input, to, classes);
    else
      GradientRow<T, false, false>(x, k, c.max[i], c.log_sum[i], a, c.b[i], input, to, classes);
    if (c.c != nullptr && rows.label[i] >= 0) to[rows.label[i]] += c.c[i];
  }
}

void StatisticsF32(const Rows<float>& r, const RowStatistics<float>& o) { StatisticsAny(r, o); }
void StatisticsF64(const Rows<double>& r, const RowStatistics<double>& o) { StatisticsAny(r, o); }
void SquareNormsF32(const Rows<float>& r, float* o) { SquareNorms(r, o); }
void SquareNormsF64(const Rows<double>& r, double* o) { SquareNorms(r, o); }
void GradientF32(const Rows<float>& r, const RowCoefficients<float>& c, float* g, std::int64_t s) {
  GradientAny(r, c, g, s);
}
void GradientF64(const Rows<double>& r, const RowCoefficients<double>& c, double* g,
                 std::int64_t s) {
  GradientAny(r, c, g, s);
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(StatisticsF32);
HWY_EXPORT(StatisticsF64);
HWY_EXPORT(SquareNormsF32);
HWY_EXPORT(SquareNormsF64);
HWY_EXPORT(GradientF32);
HWY_EXPORT(GradientF64);

#define OOD_DISPATCH(f) HWY_DISPATCH_TABLE(f)[simd_table_index()]

void row_statistics(const Rows<float>& r, const RowStatistics<float>& o) {
  OOD_DISPATCH(StatisticsF32)(r, o);
}
void row_statistics(const Rows<double>& r, const RowStatistics<double>& o) {
  OOD_DISPATCH(StatisticsF64)(r, o);
}
void row_square_norms(const Rows<float>& r, float* o) { OOD_DISPATCH(SquareNormsF32)(r, o); }
void row_square_norms(const Rows<double>& r, double* o) { OOD_DISPATCH(SquareNormsF64)(r, o); }
void row_gradient(const Rows<float>& r, const RowCoefficients<float>& c, float* g, std::int64_t s) {
  OOD_DISPATCH(GradientF32)(r, c, g, s);
}
void row_gradient(const Rows<double>& r, const RowCoefficients<double>& c, double* g,
                  std::int64_t s) {
  OOD_DISPATCH(GradientF64)(r, c, g, s);
}

}  // namespace ood::kernels
#endif
