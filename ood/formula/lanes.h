#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

/// A call in the middle of a formula would send every lane through memory.
#define OOD_INLINE [[gnu::always_inline]] inline

// Lanes are never passed to a function that is not inlined, so that their calling convention does
// not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace ood {

/// The compiler's own vectors, which it turns into the instructions of the function they end up in;
/// from plain loops it makes scalar code as soon as a formula is more than a few operations long.
template <class T, int N>
struct LanesTypes {
  using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  typedef T Numbers __attribute__((vector_size(N * sizeof(T))));
  typedef Integer Bits __attribute__((vector_size(N * sizeof(T))));
};

/// N numbers treated as one, so that a formula is evaluated on N rows at a time.
template <class T, int N>
struct Lanes {
  using Numbers = typename LanesTypes<T, N>::Numbers;
  Numbers v;

  Lanes() = default;
  OOD_INLINE explicit Lanes(const Numbers& numbers) : v(numbers) {}
  // The same in every lane.
  OOD_INLINE Lanes(double s) : v(Numbers{} + static_cast<T>(s)) {}  // NOLINT
  OOD_INLINE static Lanes load(const T* from) {
    Lanes out;
    __builtin_memcpy(&out.v, from, sizeof(Numbers));
    return out;
  }
  OOD_INLINE void store(T* to) const { __builtin_memcpy(to, &v, sizeof(Numbers)); }

  OOD_INLINE friend Lanes operator+(const Lanes& a, const Lanes& b) { return Lanes(a.v + b.v); }
  OOD_INLINE friend Lanes operator-(const Lanes& a, const Lanes& b) { return Lanes(a.v - b.v); }
  OOD_INLINE friend Lanes operator*(const Lanes& a, const Lanes& b) { return Lanes(a.v * b.v); }
  OOD_INLINE friend Lanes operator/(const Lanes& a, const Lanes& b) { return Lanes(a.v / b.v); }
  OOD_INLINE friend Lanes operator-(const Lanes& a) { return Lanes(-a.v); }
  OOD_INLINE Lanes& operator+=(const Lanes& b) { return *this = *this + b; }
  OOD_INLINE Lanes& operator*=(const Lanes& b) { return *this = *this * b; }
};

/// A truth value a lane.
template <class T, int N>
struct LanesMask {
  using Bits = typename LanesTypes<T, N>::Bits;
  Bits v;  ///< -1 or 0
};

#define OOD_LANES_COMPARISON(op)                                                       \
  template <class T, int N>                                                            \
  OOD_INLINE LanesMask<T, N> operator op(const Lanes<T, N>& a, const Lanes<T, N>& b) { \
    return {a.v op b.v};                                                               \
  }
OOD_LANES_COMPARISON(>)
OOD_LANES_COMPARISON(>=)
OOD_LANES_COMPARISON(<=)
OOD_LANES_COMPARISON(==)
#undef OOD_LANES_COMPARISON

/// a where the condition holds, else b; for one number and for lanes.
template <class F>
OOD_INLINE F choose(bool condition, const F& a, const F& b) {
  return condition ? a : b;
}
template <class T, int N>
OOD_INLINE Lanes<T, N> choose(const LanesMask<T, N>& m, const Lanes<T, N>& a,
                              const Lanes<T, N>& b) {
  // By bits: gcc 12 fails on m.v ? a.v : b.v for some formulas.
  using Numbers = typename Lanes<T, N>::Numbers;
  using Bits = typename LanesMask<T, N>::Bits;
  return Lanes<T, N>((Numbers)((m.v & (Bits)a.v) | (~m.v & (Bits)b.v)));
}

#define OOD_LANES_FUNCTION(f)                              \
  template <class T, int N>                                \
  Lanes<T, N> f(const Lanes<T, N>& a) {                    \
    Lanes<T, N> out;                                       \
    for (int i = 0; i < N; ++i) out.v[i] = std::f(a.v[i]); \
    return out;                                            \
  }
OOD_LANES_FUNCTION(sqrt)
OOD_LANES_FUNCTION(exp)
OOD_LANES_FUNCTION(log)
OOD_LANES_FUNCTION(log1p)
OOD_LANES_FUNCTION(abs)
#undef OOD_LANES_FUNCTION

}  // namespace ood
