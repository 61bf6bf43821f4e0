#include "ood/kernels/half.h"

#include <cstring>

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/half.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// bfloat16 is the upper half of a float. Plain loops: the compiler turns them into each set's
// instructions.

void WidenBFloat16(const std::uint16_t* from, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(from[i]) << 16;
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}

void NarrowBFloat16(const float* from, std::int64_t n, std::uint16_t* to) {
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, from + i, sizeof(bits));
    const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    to[i] = static_cast<std::uint16_t>(nan ? 0x7FC0U : rounded);
  }
}

// float16 has instructions from AVX2 on; before, the compiler's own type.

template <class Vectors>
HWY_INLINE std::int64_t ByVectors([[maybe_unused]] std::int64_t n,
                                  [[maybe_unused]] const Vectors& vectors) {
  std::int64_t i = 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  for (; i + lanes <= n; i += lanes) vectors(i);
#endif
  return i;
}

void WidenFloat16(const std::uint16_t* from, std::int64_t n, float* to) {
  std::int64_t i = ByVectors(n, [&](std::int64_t at) HWY_ATTR {
    const hn::ScalableTag<float> d;
    const hn::Rebind<hwy::float16_t, decltype(d)> d16;
    const auto* halves = reinterpret_cast<const hwy::float16_t*>(from + at);
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, halves)), d, to + at);
  });
  for (; i < n; ++i) {
    _Float16 half = 0;
    std::memcpy(&half, from + i, sizeof(half));
    to[i] = static_cast<float>(half);
  }
}

void NarrowFloat16(const float* from, std::int64_t n, std::uint16_t* to) {
  std::int64_t i = ByVectors(n, [&](std::int64_t at) HWY_ATTR {
    const hn::ScalableTag<float> d;
    const hn::Rebind<hwy::float16_t, decltype(d)> d16;
    auto* halves = reinterpret_cast<hwy::float16_t*>(to + at);
    hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d, from + at)), d16, halves);
  });
  for (; i < n; ++i) {
    const auto half = static_cast<_Float16>(from[i]);
    std::memcpy(to + i, &half, sizeof(half));
  }
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(WidenBFloat16);
HWY_EXPORT(WidenFloat16);
HWY_EXPORT(NarrowBFloat16);
HWY_EXPORT(NarrowFloat16);

#define OOD_DISPATCH(f) HWY_DISPATCH_TABLE(f)[simd_table_index()]

void widen(HalfType type, const std::uint16_t* from, std::int64_t n, float* to) {
  type == HalfType::kFloat16 ? OOD_DISPATCH(WidenFloat16)(from, n, to)
                             : OOD_DISPATCH(WidenBFloat16)(from, n, to);
}
void narrow(HalfType type, const float* from, std::int64_t n, std::uint16_t* to) {
  type == HalfType::kFloat16 ? OOD_DISPATCH(NarrowFloat16)(from, n, to)
                             : OOD_DISPATCH(NarrowBFloat16)(from, n, to);
}

}  // namespace ood::kernels
#endif
