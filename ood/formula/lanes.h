#pragma once

#include <cmath>
#include <cstddef>

/// A call in the middle of a formula would send every lane through memory.
#define OOD_INLINE [[gnu::always_inline]] inline

namespace ood {

/// N numbers treated as one, so that a formula is evaluated on N rows at a time. The loops have a
/// fixed length and no branch; the compiler turns them into vector instructions.
template <class T, int N>
struct Lanes {
  T v[N];

  Lanes() = default;
  OOD_INLINE Lanes(double s) {  // NOLINT: a constant is the same number in every lane
    for (int i = 0; i < N; ++i) v[i] = static_cast<T>(s);
  }
  OOD_INLINE static Lanes load(const T* from) {
    Lanes out;
    for (int i = 0; i < N; ++i) out.v[i] = from[i];
    return out;
  }
  OOD_INLINE void store(T* to) const {
    for (int i = 0; i < N; ++i) to[i] = v[i];
  }

#define OOD_LANES_OPERATOR(op)                                          \
  OOD_INLINE friend Lanes operator op(const Lanes& a, const Lanes& b) { \
    Lanes out;                                                          \
    for (int i = 0; i < N; ++i) out.v[i] = a.v[i] op b.v[i];            \
    return out;                                                         \
  }
  OOD_LANES_OPERATOR(+)
  OOD_LANES_OPERATOR(-)
  OOD_LANES_OPERATOR(*)
  OOD_LANES_OPERATOR(/)
#undef OOD_LANES_OPERATOR

  OOD_INLINE friend Lanes operator-(const Lanes& a) {
    Lanes out;
    for (int i = 0; i < N; ++i) out.v[i] = -a.v[i];
    return out;
  }
  OOD_INLINE Lanes& operator+=(const Lanes& b) { return *this = *this + b; }
  OOD_INLINE Lanes& operator*=(const Lanes& b) { return *this = *this * b; }
};

/// A truth value a lane, stored as a number of the lane's size so that choosing vectorises.
template <class T, int N>
struct LanesMask {
  T v[N];  ///< 1 or 0
};

#define OOD_LANES_COMPARISON(op)                                                       \
  template <class T, int N>                                                            \
  OOD_INLINE LanesMask<T, N> operator op(const Lanes<T, N>& a, const Lanes<T, N>& b) { \
    LanesMask<T, N> out;                                                               \
    for (int i = 0; i < N; ++i) out.v[i] = a.v[i] op b.v[i] ? T{1} : T{0};             \
    return out;                                                                        \
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
  Lanes<T, N> out;
  for (int i = 0; i < N; ++i) out.v[i] = m.v[i] != T{0} ? a.v[i] : b.v[i];
  return out;
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
