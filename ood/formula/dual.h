#pragma once

#include <array>
#include <cmath>
#include <cstddef>

namespace ood {

/// A number and its partial derivatives with respect to V variables (forward-mode differentiation).
/// With V = 0 it is a plain number, so one formula serves evaluation and differentiation.
template <class F, int V>
struct Dual {
  F value{};
  std::array<F, static_cast<std::size_t>(V)> partial{};

  constexpr Dual() = default;
  constexpr Dual(F v) : value(v) {}  // NOLINT: a constant is a number whose partials are 0

  static constexpr Dual variable(F v, int index) {
    Dual d(v);
    if constexpr (V > 0) d.partial[static_cast<std::size_t>(index)] = F{1};
    return d;
  }

  /// f(*this), given its value and derivative there.
  constexpr Dual chain(F f, F derivative) const {
    Dual out(f);
    for (std::size_t i = 0; i < partial.size(); ++i) out.partial[i] = derivative * partial[i];
    return out;
  }

  friend constexpr Dual operator-(const Dual& a) { return a.chain(-a.value, F{-1}); }
  friend constexpr Dual operator+(const Dual& a, const Dual& b) {
    Dual out(a.value + b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = a.partial[i] + b.partial[i];
    return out;
  }
  friend constexpr Dual operator-(const Dual& a, const Dual& b) {
    Dual out(a.value - b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = a.partial[i] - b.partial[i];
    return out;
  }
  friend constexpr Dual operator*(const Dual& a, const Dual& b) {
    Dual out(a.value * b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = a.partial[i] * b.value + b.partial[i] * a.value;
    return out;
  }
  friend constexpr Dual operator/(const Dual& a, const Dual& b) {
    Dual out(a.value / b.value);
    for (std::size_t i = 0; i < out.partial.size(); ++i)
      out.partial[i] = (a.partial[i] - out.value * b.partial[i]) / b.value;
    return out;
  }

  // Parameters are doubles; a constant has no partials to carry along.
  friend constexpr Dual operator+(const Dual& a, double s) { return a.chain(a.value + F(s), F{1}); }
  friend constexpr Dual operator+(double s, const Dual& a) { return a + s; }
  friend constexpr Dual operator-(const Dual& a, double s) { return a.chain(a.value - F(s), F{1}); }
  friend constexpr Dual operator-(double s, const Dual& a) {
    return a.chain(F(s) - a.value, F{-1});
  }
  friend constexpr Dual operator*(const Dual& a, double s) { return a.chain(a.value * F(s), F(s)); }
  friend constexpr Dual operator*(double s, const Dual& a) { return a * s; }
  friend constexpr Dual operator/(const Dual& a, double s) {
    return a.chain(a.value / F(s), F{1} / F(s));
  }
  friend constexpr Dual operator/(double s, const Dual& a) {
    const F q = F(s) / a.value;
    return a.chain(q, -q / a.value);
  }
};

/// relu(x) = max(0, x), derivative 0 at the kink; NaN stays NaN.
template <class F, int V>
Dual<F, V> relu(const Dual<F, V>& x) {
  if (x.value <= F{0}) return Dual<F, V>(F{0});
  return x;
}

template <class F, int V>
Dual<F, V> square(const Dual<F, V>& x) {
  return x.chain(x.value * x.value, F{2} * x.value);
}

/// sqrt with derivative 0 at 0, as the norm of a vector has it.
template <class F, int V>
Dual<F, V> root(const Dual<F, V>& x) {
  const F r = std::sqrt(x.value);
  return x.chain(r, x.value == F{0} ? F{0} : F{0.5} / r);
}

template <class F, int V>
Dual<F, V> exp(const Dual<F, V>& x) {
  const F e = std::exp(x.value);
  return x.chain(e, e);
}

template <class F, int V>
Dual<F, V> log(const Dual<F, V>& x) {
  return x.chain(std::log(x.value), F{1} / x.value);
}

template <class F, int V>
Dual<F, V> sigmoid(const Dual<F, V>& x) {
  const F e = std::exp(-std::abs(x.value));
  const F s = x.value >= F{0} ? F{1} / (F{1} + e) : e / (F{1} + e);
  return x.chain(s, e / ((F{1} + e) * (F{1} + e)));
}

/// log(1 + exp x) without overflow.
template <class F, int V>
Dual<F, V> log1pexp(const Dual<F, V>& x) {
  const F e = std::exp(-std::abs(x.value));
  const F value = (x.value > F{0} ? x.value : F{0}) + std::log1p(e);
  return x.chain(value, x.value >= F{0} ? F{1} / (F{1} + e) : e / (F{1} + e));
}

/// a where the condition holds, else b; partials of the other branch are dropped, not multiplied by
/// 0.
template <class F, int V>
Dual<F, V> where(bool condition, const Dual<F, V>& a, const Dual<F, V>& b) {
  return condition ? a : b;
}
template <class F, int V>
Dual<F, V> where(bool condition, const Dual<F, V>& a, double b) {
  return condition ? a : Dual<F, V>(F(b));
}
template <class F, int V>
Dual<F, V> where(bool condition, double a, const Dual<F, V>& b) {
  return condition ? Dual<F, V>(F(a)) : b;
}

template <class F, int V>
bool above_zero(const Dual<F, V>& x) {
  return x.value > F{0};
}

}  // namespace ood
