// Pixels to planes at every level, for numbers of pixels around a vector's.
#include "ood/kernels/planes.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/levels.h"

namespace ood::kernels {
namespace {

TEST(Planes, MovesEveryByteAndNothingElse) {
  test::at_every_level([](const std::string& level) {
    for (const int n : {0, 1, 15, 16, 17, 31, 33, 63, 64, 65, 191, 192, 200}) {
      constexpr std::uint8_t kUntouched = 255;
      std::vector<std::uint8_t> pixels(3 * n), planes(3 * n + 70, kUntouched);
      for (int i = 0; i < 3 * n; ++i) pixels[i] = static_cast<std::uint8_t>(i * 89 % 251);
      pixels_to_planes(pixels.data(), n, planes.data());
      for (int i = 0; i < n; ++i)
        for (int c = 0; c < 3; ++c)
          ASSERT_EQ(planes[c * n + i], pixels[3 * i + c]) << level << " " << i << " of " << n;
      for (std::size_t i = 3 * n; i < planes.size(); ++i) ASSERT_EQ(planes[i], kUntouched) << level;
    }
  });
}

}  // namespace
}  // namespace ood::kernels
