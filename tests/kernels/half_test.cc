// Every number of 16 bits to float and back, and rounding, against torch's own, at every level.
#include "ood/kernels/half.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/kernels/levels.h"

namespace ood::kernels {
namespace {

constexpr std::int64_t kAll = 1 << 16;

template <class Half>
void check(HalfType type) {
  test::at_every_level([&](const std::string& level) {
    std::vector<std::uint16_t> bits(kAll), back(kAll);
    for (std::int64_t i = 0; i < kAll; ++i) bits[i] = static_cast<std::uint16_t>(i);
    std::vector<float> wide(kAll);
    widen(type, bits.data(), kAll, wide.data());
    narrow(type, wide.data(), kAll, back.data());
    for (std::int64_t i = 0; i < kAll; ++i) {
      const float right = Half(bits[i], Half::from_bits());
      if (std::isnan(right)) {
        EXPECT_TRUE(std::isnan(wide[i])) << level << " " << i;
        EXPECT_TRUE(std::isnan(static_cast<float>(Half(back[i], Half::from_bits()))));
      } else {
        EXPECT_EQ(std::memcmp(&wide[i], &right, sizeof(right)), 0) << level << " " << i;
        EXPECT_EQ(back[i], bits[i]) << level;
      }
    }
    // Numbers between those, ties among them, in pieces that are not whole vectors.
    std::mt19937 random(1);
    std::vector<float> between;
    for (std::int64_t i = 0; i < kAll - 1; i += 7)
      if (std::isfinite(wide[i]) && std::isfinite(wide[i + 1])) {
        between.push_back(wide[i] / 2 + wide[i + 1] / 2);
        between.push_back(wide[i] +
                          (wide[i + 1] - wide[i]) * static_cast<float>(random() % 1000) / 1000);
      }
    between.insert(between.end(), {1e30F, -1e30F, 65519.F, 65520.F, 3.4e38F, INFINITY, -INFINITY});
    for (std::size_t i = 0; i < between.size(); i += 13) {
      const auto n = static_cast<std::int64_t>(std::min<std::size_t>(13, between.size() - i));
      std::uint16_t got[13];
      narrow(type, between.data() + i, n, got);
      for (std::int64_t k = 0; k < n; ++k)
        EXPECT_EQ(got[k], Half(between[i + static_cast<std::size_t>(k)]).x)
            << level << " " << between[i + static_cast<std::size_t>(k)];
    }
  });
}

TEST(Half, Float16IsTorchs) { check<c10::Half>(HalfType::kFloat16); }
TEST(Half, BFloat16IsTorchs) { check<c10::BFloat16>(HalfType::kBFloat16); }

}  // namespace
}  // namespace ood::kernels
