// Derivatives of the vocabulary against differences, and its conventions at kinks.
#include "ood/formula/dual.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace ood {
namespace {

using D = Dual<double, 2>;

void expect_derivatives(const std::function<D(const D&, const D&)>& f, double x, double y) {
  const auto value = [&](double a, double b) { return f(D(a), D(b)).value; };
  const D at = f(D::variable(x, 0), D::variable(y, 1));
  constexpr double h = 1e-6;
  EXPECT_NEAR(at.partial[0], (value(x + h, y) - value(x - h, y)) / (2 * h), 1e-7);
  EXPECT_NEAR(at.partial[1], (value(x, y + h) - value(x, y - h)) / (2 * h), 1e-7);
  EXPECT_EQ(at.value, value(x, y));
}

TEST(Dual, ArithmeticAndFunctions) {
  for (const double x : {-1.3, 0.4, 2.1})
    for (const double y : {0.7, 3.2}) {
      expect_derivatives([](const D& a, const D& b) { return a * b + a / b - b; }, x, y);
      expect_derivatives([](const D& a, const D& b) { return 2.0 * a - b * 3.0 + 1.0 - a / 4.0; },
                         x, y);
      expect_derivatives([](const D& a, const D& b) { return 2.0 / b + (1.0 - a); }, x, y);
      expect_derivatives([](const D& a, const D& b) { return exp(a) * log(b) * root(b); }, x, y);
      expect_derivatives([](const D& a, const D& b) { return sigmoid(a) + log1pexp(a * b); }, x, y);
      expect_derivatives([](const D& a, const D& b) { return square(relu(a - b)) + relu(-a); }, x,
                         y);
      expect_derivatives([](const D& a, const D& b) { return where(a.value > 0, a * a, b); }, x, y);
    }
}

TEST(Dual, Kinks) {
  EXPECT_EQ(relu(D::variable(0, 0)).partial[0], 0);
  EXPECT_EQ(root(D::variable(0, 0)).partial[0], 0);
  EXPECT_TRUE(std::isnan(relu(D(std::numeric_limits<double>::quiet_NaN())).value));
}

TEST(Dual, LargeArgumentsDoNotOverflow) {
  EXPECT_EQ(log1pexp(D::variable(1000, 0)).value, 1000);
  EXPECT_EQ(log1pexp(D::variable(1000, 0)).partial[0], 1);
  EXPECT_EQ(sigmoid(D(-1000)).value, 0);
}

TEST(Dual, WhereDropsTheOtherBranch) {
  const D infinite = D::variable(0, 0).chain(1, std::numeric_limits<double>::infinity());
  EXPECT_EQ(where(true, D::variable(2, 1), infinite).partial[0], 0);
  EXPECT_EQ(where(false, infinite, 3.0).value, 3);
}

}  // namespace
}  // namespace ood
