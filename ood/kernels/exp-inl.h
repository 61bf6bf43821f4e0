// exp for arguments <= 0, compiled once per instruction set.
#if defined(OOD_KERNELS_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OOD_KERNELS_EXP_INL_H_
#undef OOD_KERNELS_EXP_INL_H_
#else
#define OOD_KERNELS_EXP_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// exp(t), t <= 0, absolute error below 2e-7; exactly 0 below -64 and at -inf,
// so that nothing made of it, divided by a number of rows, is a denormal number.
// A NaN does not come through: callers test the sum of their arguments instead.
//
//   exp(t) = 2^n 2^f,  n = round(t log2 e),  |f| <= 1/2
//
// Results near 0 need no relative accuracy (they are summed with exp(0) = 1 or are probabilities),
// so one multiplication reduces the argument. 2^f: minimax polynomial of degree 6, error 2e-9.
// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits, from where it moves
// straight to the exponent.
template <class D, HWY_IF_LANE_SIZE(hn::TFromD<D>, 4)>
HWY_INLINE hn::Vec<D> ExpNonPositive(D d, hn::Vec<D> t) {
  const hn::RebindToSigned<D> di;
  const auto shift = hn::Set(d, 12582912.0f);
  const auto log2e = hn::Set(d, 1.44269504f);
  const auto shifted = hn::MulAdd(t, log2e, shift);
  const auto f = hn::MulSub(t, log2e, hn::Sub(shifted, shift));
  auto p = hn::Set(d, 0.00015345812f);
  p = hn::MulAdd(p, f, hn::Set(d, 0.0013399931f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.009618489f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.055503288f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.24022647f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.6931472f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto n = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const auto result = hn::BitCast(d, hn::Add(hn::BitCast(di, p), n));
  return hn::IfThenElseZero(hn::Ge(t, hn::Set(d, -64.0f)), result);
}

template <class D, HWY_IF_LANE_SIZE(hn::TFromD<D>, 8)>
HWY_INLINE hn::Vec<D> ExpNonPositive(D d, hn::Vec<D> t) {
  return hn::Exp(d, t);
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
