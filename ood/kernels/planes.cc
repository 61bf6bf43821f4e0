#include "ood/kernels/planes.h"

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/planes.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void PixelsToPlanes(const std::uint8_t* pixels, std::int64_t n, std::uint8_t* planes) {
  const hn::ScalableTag<std::uint8_t> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::Vec<decltype(d)> red, green, blue;
    hn::LoadInterleaved3(d, pixels + 3 * i, red, green, blue);
    hn::StoreU(red, d, planes + i);
    hn::StoreU(green, d, planes + n + i);
    hn::StoreU(blue, d, planes + 2 * n + i);
  }
  for (; i < n; ++i)
    for (std::int64_t c = 0; c < 3; ++c) planes[c * n + i] = pixels[3 * i + c];
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(PixelsToPlanes);

void pixels_to_planes(const std::uint8_t* pixels, std::int64_t n, std::uint8_t* planes) {
  HWY_DISPATCH_TABLE(PixelsToPlanes)[simd_table_index()](pixels, n, planes);
}

}  // namespace ood::kernels
#endif
