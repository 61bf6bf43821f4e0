// Every formula of the library on all number types it can be written for, compared value by value:
// Dual<float>, Dual<double> and at::Tensor.
#include <gtest/gtest.h>

#include "ood/formula/dual.h"
#include "ood/formula/tensor_row.h"
#include "ood/ood.h"
#include "ood/torch.h"

namespace ood {
namespace {

struct Statistics {
  double nll, uniform_nll, lse, sqnorm, target;
};

constexpr double kExtra = 2.5;

template <class Formula, class F>
auto on_dual(const Statistics& s, bool known) {
  constexpr int kVariables = statistic_count<Formula>() + extra_count<Formula>();
  DualRow<Formula, F, kVariables> row{};
  row.nll_value = static_cast<F>(s.nll);
  row.uniform_nll_value = static_cast<F>(s.uniform_nll);
  row.lse_value = static_cast<F>(s.lse);
  row.sqnorm_value = static_cast<F>(s.sqnorm);
  row.target_value = static_cast<F>(s.target);
  row.extras.fill(static_cast<F>(kExtra));
  return Formula{}(row, known);
}

// Values and derivatives of the terms by the formula's variables, from tensors.
template <class Formula>
void expect_agreement(const Statistics& s, bool known) {
  const auto scalar = [](double v) { return torch::full({1}, v, at::kDouble).requires_grad_(); };
  TensorRow row{scalar(s.nll),    scalar(s.uniform_nll), scalar(s.lse),
                scalar(s.sqnorm), scalar(s.target),      torch::full({1, 1}, kExtra, at::kDouble)};
  const auto by_tensor = Formula{}(row, torch::full({1}, known, at::kBool));
  const auto by_double = on_dual<Formula, double>(s, known);
  const auto by_float = on_dual<Formula, float>(s, known);
  const std::pair<unsigned, at::Tensor*> variables[] = {{kNll, &row.nll_value},
                                                        {kUniformNll, &row.uniform_nll_value},
                                                        {kLogSumExp, &row.lse_value},
                                                        {kSquareNorm, &row.sqnorm_value},
                                                        {kTarget, &row.target_value}};
  for (std::size_t t = 0; t < Formula::kTerms.size(); ++t) {
    EXPECT_NEAR(by_tensor[t].template item<double>(), by_double[t].value, 1e-12);
    EXPECT_NEAR(by_float[t].value, by_double[t].value, 1e-5 * (1 + std::abs(by_double[t].value)));
    std::size_t v = 0;
    for (const auto& [statistic, tensor] : variables) {
      if ((Formula::kUses & statistic) == 0) continue;
      double expected = 0;
      if (by_tensor[t].requires_grad()) {
        const auto g =
            torch::autograd::grad({by_tensor[t].sum()}, {*tensor}, {}, true, false, true)[0];
        if (g.defined()) expected = g.template item<double>();
      }
      EXPECT_NEAR(by_double[t].partial[v], expected, 1e-12);
      EXPECT_NEAR(by_float[t].partial[v], expected, 1e-5 * (1 + std::abs(expected)));
      ++v;
    }
  }
}

template <class Formula>
class NumberTypes : public testing::Test {};
using Formulas = testing::Types<BackgroundClass, Cac, CrossEntropy, EnergyGap, EnergyRegularized,
                                EntropicOpenSet, LogitNorm, Mchad, Objectosphere, OutlierExposure>;
TYPED_TEST_SUITE(NumberTypes, Formulas);

template <class... F>
std::size_t count_of(testing::Types<F...>) {
  return sizeof...(F);
}

TEST(NumberTypesList, HasEveryFormula) { EXPECT_EQ(formulas().size(), count_of(Formulas{})); }

TYPED_TEST(NumberTypes, GiveTheSameTermsAndDerivatives) {
  for (const double lse : {-3.0, 2.0, 12.0, 30.0})
    for (const bool known : {true, false})
      expect_agreement<TypeParam>({1.3, 0.4, lse, 7.5, 0.8}, known);
}

TYPED_TEST(NumberTypes, IsInTheRegistryWithItsDefaults) {
  const ObjectiveEntry* e = find_objective(TypeParam::kCard.name);
  ASSERT_NE(e, nullptr);
  ASSERT_EQ(e->parameters.size(), TypeParam::kParameters.size());
}

TEST(NumberTypesScale, ScaledFormulasAgreeAlsoAtZero) {
  for (const double sqnorm : {0.0, 1e-8, 0.5, 40.0}) {
    const auto x = torch::full({1}, sqnorm, at::kDouble).requires_grad_();
    const auto by_tensor = LogitNorm{}.scale(x);
    const auto by_dual = LogitNorm{}.scale(Dual<double, 1>::variable(sqnorm, 0));
    const double slope = torch::autograd::grad({by_tensor.sum()}, {x})[0].template item<double>();
    EXPECT_NEAR(by_tensor.template item<double>(), by_dual.value, 1e-12 * (1 + by_dual.value));
    EXPECT_NEAR(slope, by_dual.partial[0], 1e-12 * (1 + std::abs(slope)));
  }
}

}  // namespace
}  // namespace ood
