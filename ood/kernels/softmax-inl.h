// What kernels over rows and over columns share, compiled once per instruction set.
#if defined(OOD_KERNELS_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OOD_KERNELS_SOFTMAX_INL_H_
#undef OOD_KERNELS_SOFTMAX_INL_H_
#else
#define OOD_KERNELS_SOFTMAX_INL_H_
#endif

#include "ood/kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Loads the first n < Lanes(d) numbers. Masked loads may fault, hence the copy; those of AVX2 do
// not for numbers of 32 and 64 bits, which Highway does not tell apart from shorter ones.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadTail(D d, const T* from, std::size_t n) {
  static_assert(sizeof(T) >= 4);
#if HWY_MEM_OPS_MIGHT_FAULT && HWY_TARGET != HWY_AVX2
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(T)] = {};
  for (std::size_t i = 0; i < n; ++i) buffer[i] = from[i];
  return hn::Load(d, buffer);
#else
  return hn::MaskedLoad(hn::FirstN(d, n), d, from);
#endif
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void StoreTail(D d, hn::Vec<D> v, T* to, std::size_t n) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(v, d, buffer);
  for (std::size_t i = 0; i < n; ++i) to[i] = buffer[i];
#else
  hn::BlendedStore(v, hn::FirstN(d, n), d, to);
#endif
}

// Sums over classes of r = k (x - m), of exp r and, where asked for, of r exp r.
template <class T, bool kScaled, bool kInner>
struct Summer {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  D d;
  V scale, max;
  V exp, relative, inner;

  HWY_INLINE Summer(V k, V m)
      : scale(k), max(m), exp(hn::Zero(d)), relative(hn::Zero(d)), inner(hn::Zero(d)) {}

  HWY_INLINE V Relative(V x) const {
    // k (x - max), not k x - max: the latter would not be 0 at the maximum once it is fused.
    return kScaled ? hn::Mul(hn::Sub(x, max), scale) : hn::Sub(x, max);
  }
  // Returns exp r.
  HWY_INLINE V Add(V x) {
    const V r = Relative(x);
    const V e = ExpNonPositive(d, r);
    exp = hn::Add(exp, e);
    relative = hn::Add(relative, r);
    if (kInner) inner = hn::MulAdd(e, r, inner);
    return e;
  }
  HWY_INLINE V AddTail(V x, std::size_t n) {
    const auto in = hn::FirstN(d, n);
    const V r = hn::IfThenElseZero(in, Relative(x));
    const V e = hn::IfThenElseZero(in, ExpNonPositive(d, r));
    exp = hn::Add(exp, e);
    relative = hn::Add(relative, r);
    if (kInner) inner = hn::MulAdd(e, r, inner);
    return e;
  }
  HWY_INLINE void Merge(const Summer& o) {
    exp = hn::Add(exp, o.exp);
    relative = hn::Add(relative, o.relative);
    if (kInner) inner = hn::Add(inner, o.inner);
  }
};

// The gradient a p + b + d x. kInput: whether d is there. A masked class has x = -inf, so d x is
// left out where d = 0.
template <class T, bool kScaled, bool kInput>
struct Gradient {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  D tag;
  V scale, max, log_sum, a, b, d;

  HWY_INLINE V operator()(V x) const {
    const V r = kScaled ? hn::Mul(hn::Sub(x, max), scale) : hn::Sub(x, max);
    const V p = ExpNonPositive(tag, hn::Sub(r, log_sum));
    const V g = hn::MulAdd(a, p, b);
    return kInput ? hn::MulAdd(d, x, g) : g;
  }
};

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
