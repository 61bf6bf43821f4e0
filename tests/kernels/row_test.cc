// The row kernels against sums in long double, at every level and width. Not here: formulas.
#include "ood/kernels/row.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/kernels/levels.h"

namespace ood::kernels {
namespace {

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 2e-6 : 1e-13;

template <class T>
struct Case {
  int rows, classes, stride;
  std::vector<T> x, scale;
  std::vector<std::int32_t> label;

  Case(int r, int c, std::uint64_t seed, double spread = 3)
      : rows(r), classes(c), stride(c + 3), x(r * stride), scale(r), label(r, kNoClass) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal(0, spread);
    for (auto& v : x) v = static_cast<T>(normal(random));
    for (auto& k : scale) k = static_cast<T>(std::abs(normal(random)) + 0.1);
  }
  Rows<T> view(bool scaled) const {
    return {x.data(), rows, classes, stride, scaled ? scale.data() : nullptr, label.data()};
  }
};

template <class T>
struct Output {
  std::vector<T> max, log_sum, mean, expected;
  explicit Output(int rows)
      : max(rows, -9), log_sum(rows, -9), mean(rows, -9), expected(rows, -9) {}
  RowStatistics<T> view() { return {max.data(), log_sum.data(), mean.data(), expected.data()}; }
};

struct Exact {
  double max, log_sum, mean, expected;
};

template <class T>
Exact exact(const T* x, int classes, T k) {
  long double max = -std::numeric_limits<long double>::infinity(), sum = 0, mean = 0, inner = 0;
  for (int j = 0; j < classes; ++j)
    max = std::max<long double>(max, static_cast<long double>(k) * x[j]);
  for (int j = 0; j < classes; ++j) {
    const long double r = static_cast<long double>(k) * x[j] - max;
    sum += std::exp(r);
    mean += r;
    inner += r == -std::numeric_limits<long double>::infinity() ? 0 : r * std::exp(r);
  }
  max /= k;
  return {static_cast<double>(max), static_cast<double>(std::log(sum)),
          static_cast<double>(mean / classes), static_cast<double>(inner / sum)};
}

template <class T>
class Row : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Row, Types);

TYPED_TEST(Row, StatisticsAreExactToTolerance) {
  using T = TypeParam;
  test::at_every_level([](const std::string& level) {
    for (const int classes : test::kWidths)
      for (const bool scaled : {false, true}) {
        const Case<T> c(5, classes, 11 + classes);
        Output<T> out(c.rows);
        row_statistics(c.view(scaled), out.view());
        for (int i = 0; i < c.rows; ++i) {
          const Exact e = exact(&c.x[i * c.stride], classes, scaled ? c.scale[i] : T{1});
          const double tolerance = kTolerance<T> * std::max(1.0, std::abs(e.mean));
          EXPECT_NEAR(out.max[i], e.max, tolerance) << level << " C=" << classes;
          EXPECT_NEAR(out.log_sum[i], e.log_sum, tolerance) << level << " C=" << classes;
          EXPECT_NEAR(out.mean[i], e.mean, tolerance) << level << " C=" << classes;
          EXPECT_NEAR(out.expected[i], e.expected, tolerance) << level << " C=" << classes;
        }
      }
  });
}

TYPED_TEST(Row, GradientIsExactToToleranceAndStaysInsideItsRow) {
  using T = TypeParam;
  test::at_every_level([](const std::string& level) {
    for (const int classes : test::kWidths)
      for (const bool scaled : {false, true})
        for (const bool input : {false, true}) {
          const Case<T> c(4, classes, 5 + classes);
          Output<T> out(c.rows);
          row_statistics(c.view(scaled), out.view());
          const std::vector<T> a{2, -1, T(0.5), 3}, b{T(0.1), 0, -1, 2}, d{0, 1, -2, T(0.25)};
          std::vector<T> grad(c.rows * (classes + 1), 77);
          row_gradient(c.view(scaled),
                       RowCoefficients<T>{out.max.data(), out.log_sum.data(), a.data(), b.data(),
                                          input ? d.data() : nullptr},
                       grad.data(), classes + 1);
          for (int i = 0; i < c.rows; ++i) {
            const T k = scaled ? c.scale[i] : T{1};
            const Exact e = exact(&c.x[i * c.stride], classes, k);
            for (int j = 0; j < classes; ++j) {
              const double x = c.x[i * c.stride + j];
              const double p = std::exp(k * (x - e.max) - e.log_sum);
              const double expected = a[i] * p + b[i] + (input ? d[i] * x : 0);
              EXPECT_NEAR(grad[i * (classes + 1) + j], expected, 10 * kTolerance<T>)
                  << level << " C=" << classes << " row " << i << " class " << j;
            }
            EXPECT_EQ(grad[i * (classes + 1) + classes], 77) << "wrote past the row, " << level;
          }
        }
  });
}

TYPED_TEST(Row, OffsetCostsNoDigits) {
  using T = TypeParam;
  test::at_every_level([](const std::string& level) {
    Case<T> c(3, 37, 3);
    // Numbers that stay exact under the offset, so that only the kernel could lose digits.
    for (auto& v : c.x) v = std::round(v * 4) / 4;
    Output<T> plain(c.rows), moved(c.rows);
    row_statistics(c.view(false), plain.view());
    for (auto& v : c.x) v += 10000;
    row_statistics(c.view(false), moved.view());
    EXPECT_EQ(plain.log_sum, moved.log_sum) << level;
    EXPECT_EQ(plain.mean, moved.mean) << level;
  });
}

TYPED_TEST(Row, NanAndInfinity) {
  using T = TypeParam;
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  test::at_every_level([&](const std::string& level) {
    for (const int classes : {2, 3, 16, 33, 100})
      for (const int at : {0, 1, classes - 1}) {
        Case<T> c(4, classes, 8);
        c.x[0 * c.stride + at] = nan;
        c.x[1 * c.stride + at] = inf;
        c.x[2 * c.stride + at] = -inf;  // a masked class; row 3 is ordinary
        Output<T> out(c.rows);
        row_statistics(c.view(false), out.view());
        EXPECT_TRUE(std::isnan(out.log_sum[0])) << level;
        EXPECT_TRUE(std::isnan(out.log_sum[1])) << level;
        const Exact e = exact(&c.x[2 * c.stride], classes, T{1});
        EXPECT_NEAR(out.log_sum[2], e.log_sum, kTolerance<T>) << level;
        EXPECT_EQ(out.mean[2], -inf) << level;

        const std::vector<T> a(4, 1), b(4, 0), d(4, 0);
        std::vector<T> grad(4 * classes);
        row_gradient(
            c.view(false),
            RowCoefficients<T>{out.max.data(), out.log_sum.data(), a.data(), b.data(), d.data()},
            grad.data(), classes);
        for (int j = 0; j < classes; ++j) {
          EXPECT_TRUE(std::isnan(grad[j])) << level;
          EXPECT_TRUE(std::isnan(grad[classes + j])) << level;
          EXPECT_FALSE(std::isnan(grad[2 * classes + j])) << level;
        }
        EXPECT_EQ(grad[2 * classes + at], 0) << level;
      }
  });
}

TYPED_TEST(Row, RowsThatTakeNoPartAreZeroWhateverTheyHold) {
  using T = TypeParam;
  test::at_every_level([](const std::string& level) {
    Case<T> c(3, 20, 4);
    for (int j = 0; j < c.classes; ++j) c.x[c.stride + j] = std::numeric_limits<T>::quiet_NaN();
    c.label[1] = kNoPart;
    Output<T> out(c.rows);
    row_statistics(c.view(true), out.view());
    EXPECT_EQ(out.max[1], 0) << level;
    EXPECT_EQ(out.log_sum[1], 0) << level;
    std::vector<T> norms(3), grad(60, 5), one(3, 1);
    row_square_norms(c.view(false), norms.data());
    EXPECT_EQ(norms[1], 0) << level;
    row_gradient(
        c.view(true),
        RowCoefficients<T>{out.max.data(), out.log_sum.data(), one.data(), one.data(), one.data()},
        grad.data(), 20);
    for (int j = 0; j < 20; ++j) EXPECT_EQ(grad[20 + j], 0) << level;
  });
}

TYPED_TEST(Row, GradientMayOverwriteItsInput) {
  using T = TypeParam;
  test::at_every_level([](const std::string& level) {
    Case<T> c(6, 45, 9);
    Output<T> out(c.rows);
    row_statistics(c.view(false), out.view());
    const std::vector<T> a(6, 2), b(6, -1), d(6, T(0.5));
    const RowCoefficients<T> k{out.max.data(), out.log_sum.data(), a.data(), b.data(), d.data()};
    std::vector<T> apart(c.x.size(), 0);
    row_gradient(c.view(false), k, apart.data(), c.stride);
    row_gradient(c.view(false), k, c.x.data(), c.stride);
    for (int i = 0; i < 6; ++i)
      for (int j = 0; j < 45; ++j)
        EXPECT_EQ(c.x[i * c.stride + j], apart[i * c.stride + j]) << level;
  });
}

// A strided sweep of all floats from -100 to 0: one class against another makes exp visible as the
// gradient of the smaller one, p = exp(t) / (1 + exp(t)).
TEST(RowExp, AbsoluteErrorOverTheWholeRange) {
  test::at_every_level([](const std::string& level) {
    std::vector<float> t;
    for (std::uint32_t bits = 0x80000000u; bits <= 0xC2C80000u; bits += 9973) {
      float v;
      std::memcpy(&v, &bits, 4);
      t.push_back(v);
    }
    const auto n = static_cast<std::int64_t>(t.size());
    std::vector<float> zero(n, 0), one(n, 1), grad(n);
    // max = log_sum = 0 makes the kernel compute exp(t) itself.
    row_gradient(Rows<float>{t.data(), n, 1, 1, nullptr},
                 RowCoefficients<float>{zero.data(), zero.data(), one.data(), zero.data(), nullptr},
                 grad.data(), 1);
    double worst = 0;
    for (std::int64_t i = 0; i < n; ++i)
      worst = std::max(worst, std::abs(grad[i] - std::exp(static_cast<double>(t[i]))));
    EXPECT_LT(worst, 2e-7) << level;
  });
}

TEST(SimdLevel, NamesAndChoice) {
  const auto levels = available_simd_levels();
  ASSERT_FALSE(levels.empty());
  EXPECT_EQ(name(levels.front()), "scalar");
  const auto before = simd_level();
  for (const auto l : levels) {
    EXPECT_TRUE(set_simd_level(l));
    EXPECT_EQ(simd_level(), l);
  }
  set_simd_level(before);
}

// Function, range, largest error.
TEST(Exp, IsWithinItsPromiseAtEveryLevel) {
  constexpr int kArguments = 20000;
  constexpr double kLowest = -100, kLargestError = 2e-7;
  std::vector<float> x(2 * kArguments), exp(2 * kArguments);
  for (int i = 0; i < kArguments; ++i) {
    x[2 * i] = 0;
    x[2 * i + 1] = static_cast<float>(kLowest * (i + 0.5) / kArguments);
  }
  test::at_every_level([&](const std::string& level) {
    std::vector<float> max(kArguments), log_sum(kArguments);
    RowStatistics<float> out{max.data(), log_sum.data(), nullptr, nullptr};
    out.exp = exp.data();
    out.exp_stride = 2;
    row_statistics(Rows<float>{x.data(), kArguments, 2, 2, nullptr}, out);
    double worst = 0;
    for (int i = 0; i < kArguments; ++i) {
      ASSERT_EQ(exp[2 * i], 1.0f) << level;
      worst =
          std::max(worst, std::abs(exp[2 * i + 1] - std::exp(static_cast<double>(x[2 * i + 1]))));
      if (x[2 * i + 1] < -88) ASSERT_EQ(exp[2 * i + 1], 0.0f) << level << x[2 * i + 1];
    }
    EXPECT_LT(worst, kLargestError) << level;
  });
}

}  // namespace
}  // namespace ood::kernels
