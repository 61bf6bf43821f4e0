#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "ood/formula/lanes.h"

namespace ood {

/// A number and its partial derivatives with respect to V variables (forward-mode differentiation).
/// With V = 0 it is a plain number, so one formula serves evaluation and differentiation. F is
/// float, double or Lanes of them.
template <class F, int V>
struct Dual {
  F value{};
  std::array<F, static_cast<std::size_t>(V)> partial{};

  OOD_INLINE Dual() {
    value = F(0.0);
    partial.fill(F(0.0));
  }
  // A constant has partials of 0.
  OOD_INLINE Dual(const F& v) : value(v) { partial.fill(F(0.0)); }  // NOLINT

  OOD_INLINE static Dual variable(const F& v, int index) {
    Dual d(v);
    if constexpr (V > 0) d.partial[static_cast<std::size_t>(index)] = F(1.0);
    return d;
  }

  /// f(*this), given its value and derivative there.
  OOD_INLINE Dual chain(const F& f, const F& derivative) const {
    Dual out(f);
    for (std::size_t i = 0; i < partial.size(); ++i) out.partial[i] = derivative * partial[i];
    return out;
  }

  OOD_INLINE friend Dual operator-(const Dual& a) { return a.chain(-a.value, F(-1.0)); }
  OOD_INLINE friend Dual operator+(const Dual& a, const Dual& b) {
    Dual out(a.value + b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = a.partial[i] + b.partial[i];
    return out;
  }
  OOD_INLINE friend Dual operator-(const Dual& a, const Dual& b) {
    Dual out(a.value - b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = a.partial[i] - b.partial[i];
    return out;
  }
  OOD_INLINE friend Dual operator*(const Dual& a, const Dual& b) {
    Dual out(a.value * b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = a.partial[i] * b.value + b.partial[i] * a.value;
    return out;
  }
  OOD_INLINE friend Dual operator/(const Dual& a, const Dual& b) {
    Dual out(a.value / b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = (a.partial[i] - out.value * b.partial[i]) / b.value;
    return out;
  }

  // Parameters are doubles; a constant has no partials to carry along.
  OOD_INLINE friend Dual operator+(const Dual& a, double s) {
    Dual out = a;
    out.value = a.value + F(s);
    return out;
  }
  OOD_INLINE friend Dual operator+(double s, const Dual& a) { return a + s; }
  OOD_INLINE friend Dual operator-(const Dual& a, double s) { return a + -s; }
  OOD_INLINE friend Dual operator-(double s, const Dual& a) { return -a + s; }
  OOD_INLINE friend Dual operator*(const Dual& a, double s) {
    return a.chain(a.value * F(s), F(s));
  }
  OOD_INLINE friend Dual operator*(double s, const Dual& a) { return a * s; }
  OOD_INLINE friend Dual operator/(const Dual& a, double s) { return a * (1 / s); }
  OOD_INLINE friend Dual operator/(double s, const Dual& a) {
    const F q = F(s) / a.value;
    return a.chain(q, -q / a.value);
  }
};

/// a where the condition holds, else b; partials of the other branch are dropped, not multiplied by
/// 0.
template <class Mask, class F, int V>
OOD_INLINE Dual<F, V> where(const Mask& condition, const Dual<F, V>& a, const Dual<F, V>& b) {
  Dual<F, V> out(choose(condition, a.value, b.value));
  for (std::size_t i = 0; i < out.partial.size(); ++i)
    out.partial[i] = choose(condition, a.partial[i], b.partial[i]);
  return out;
}
template <class Mask, class F, int V>
OOD_INLINE Dual<F, V> where(const Mask& condition, const Dual<F, V>& a, double b) {
  return where(condition, a, Dual<F, V>(F(b)));
}
template <class Mask, class F, int V>
OOD_INLINE Dual<F, V> where(const Mask& condition, double a, const Dual<F, V>& b) {
  return where(condition, Dual<F, V>(F(a)), b);
}

template <class F, int V>
OOD_INLINE auto above_zero(const Dual<F, V>& x) {
  return x.value > F(0.0);
}

/// relu(x) = max(0, x), derivative 0 at the kink; NaN stays NaN.
template <class F, int V>
OOD_INLINE Dual<F, V> relu(const Dual<F, V>& x) {
  return where(x.value <= F(0.0), 0.0, x);
}

template <class F, int V>
OOD_INLINE Dual<F, V> square(const Dual<F, V>& x) {
  return x.chain(x.value * x.value, F(2.0) * x.value);
}

/// sqrt with derivative 0 at 0, as the norm of a vector has it.
template <class F, int V>
OOD_INLINE Dual<F, V> root(const Dual<F, V>& x) {
  using std::sqrt;
  const F r = sqrt(x.value);
  return x.chain(r, choose(x.value == F(0.0), F(0.0), F(0.5) / r));
}

template <class F, int V>
OOD_INLINE Dual<F, V> exp(const Dual<F, V>& x) {
  using std::exp;
  const F e = exp(x.value);
  return x.chain(e, e);
}

template <class F, int V>
OOD_INLINE Dual<F, V> log(const Dual<F, V>& x) {
  using std::log;
  return x.chain(log(x.value), F(1.0) / x.value);
}

template <class F, int V>
OOD_INLINE Dual<F, V> sigmoid(const Dual<F, V>& x) {
  using std::abs, std::exp;
  const F e = exp(-abs(x.value));
  const F s = choose(x.value >= F(0.0), F(1.0), e) / (F(1.0) + e);
  return x.chain(s, e / ((F(1.0) + e) * (F(1.0) + e)));
}

/// log(1 + exp x) without overflow.
template <class F, int V>
OOD_INLINE Dual<F, V> log1pexp(const Dual<F, V>& x) {
  using std::abs, std::exp, std::log1p;
  const F e = exp(-abs(x.value));
  const F value = choose(x.value > F(0.0), x.value, F(0.0)) + log1p(e);
  return x.chain(value, choose(x.value >= F(0.0), F(1.0), e) / (F(1.0) + e));
}

}  // namespace ood
