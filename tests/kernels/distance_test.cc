// The distance kernels against sums in double, at every level, width and remainder of a tile.
#include "ood/kernels/distance.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/kernels/levels.h"

namespace ood::kernels {
namespace {

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 2e-6 : 1e-14;

template <class T>
std::vector<T> normal_rows(std::int64_t rows, std::int64_t width, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, 3);
  std::vector<T> out(static_cast<std::size_t>(rows * width));
  for (auto& v : out) v = static_cast<T>(normal(random));
  return out;
}

template <class T>
void check_square_distances(std::int64_t n, std::int64_t m, std::int64_t width,
                            const std::string& level) {
  const auto a = normal_rows<T>(n, width, 1), b = normal_rows<T>(m, width, 2);
  const std::int64_t stride = m + 3;
  const T untouched = -1;
  std::vector<T> out(static_cast<std::size_t>(n * stride), untouched);
  square_distances(a.data(), n, b.data(), m, width, out.data(), stride);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < stride; ++j) {
      const T got = out[static_cast<std::size_t>(i * stride + j)];
      if (j >= m) {
        EXPECT_EQ(got, untouched);
        continue;
      }
      double want = 0;
      for (std::int64_t k = 0; k < width; ++k) {
        const double e = static_cast<double>(a[static_cast<std::size_t>(i * width + k)]) -
                         static_cast<double>(b[static_cast<std::size_t>(j * width + k)]);
        want += e * e;
      }
      EXPECT_NEAR(got, want, kTolerance<T> * want)
          << level << " " << i << " of " << n << ", " << j << " of " << m << ", width " << width;
    }
}

TEST(DistanceKernels, SquareDistancesAtEveryWidthAndRemainder) {
  test::at_every_level([](const std::string& level) {
    for (const int width : test::kWidths)
      for (const std::int64_t n : {0, 1, 2, 3, 4, 5, 9})
        for (const std::int64_t m : {0, 1, 3, 4, 5, 11}) {
          check_square_distances<float>(n, m, width, level);
          check_square_distances<double>(n, m, width, level);
        }
  });
}

TEST(DistanceKernels, SquareDistancesOfSeveralCacheBlocks) {
  test::at_every_level([](const std::string& level) {
    check_square_distances<float>(71, 41, 1000, level);
    check_square_distances<double>(38, 22, 1000, level);
    check_square_distances<double>(6, 6, 6000, level);
  });
}

TEST(DistanceKernels, ARowHasDistanceZeroToItself) {
  test::at_every_level([](const std::string&) {
    const auto a = normal_rows<float>(9, 33, 3);
    std::vector<float> out(81);
    square_distances(a.data(), 9, a.data(), 9, 33, out.data(), 9);
    for (std::size_t i = 0; i < 9; ++i) EXPECT_EQ(out[i * 9 + i], 0.0F);
  });
}

TEST(DistanceKernels, EqualRowsHaveEqualDistancesWhateverTheirPlace) {
  test::at_every_level([](const std::string& level) {
    for (const int width : test::kWidths) {
      const auto row = normal_rows<float>(1, width, 5), other = normal_rows<float>(1, width, 6);
      std::vector<float> rows, out(49);
      for (int i = 0; i < 7; ++i) rows.insert(rows.end(), row.begin(), row.end());
      std::vector<float> others;
      for (int i = 0; i < 7; ++i) others.insert(others.end(), other.begin(), other.end());
      square_distances(rows.data(), 7, others.data(), 7, width, out.data(), 7);
      for (const float distance : out) EXPECT_EQ(distance, out[0]) << level << " " << width;
    }
  });
}

}  // namespace
}  // namespace ood::kernels
