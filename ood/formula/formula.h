#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <variant>

#include "ood/formula/dual.h"

/// The vocabulary in which an objective is written. An objective is one formula: a struct whose
/// call operator is a template over the row it is given, so that the same text is evaluated on dual
/// numbers (fused CPU path) and on tensors (composite path). docs/adding-an-objective.md walks
/// through one.
///
/// Inside a formula: +, -, *, / among numbers and with double; relu, square, root, exp, log,
/// sigmoid, log1pexp; where(condition, a, b) with either branch a double.
namespace at {
class Tensor;
}

namespace ood {

// The vocabulary for tensors is declared here, before any formula, because argument-dependent
// look-up would search at:: only. Defined in ood/formula/tensor_row.h.
at::Tensor where(const at::Tensor& condition, const at::Tensor& a, double b);
at::Tensor where(const at::Tensor& condition, double a, const at::Tensor& b);
at::Tensor above_zero(const at::Tensor& x);
at::Tensor root(const at::Tensor& x);
at::Tensor log1pexp(const at::Tensor& x);

/// The statistics of a row x of C logits with label y that a formula may use, as a bit mask.
/// Only those it declares in kUses are computed and differentiated.
enum Statistic : unsigned {
  kNll = 1,         ///< row.nll()          logsumexp(x) - x[y]; an OOD row has none (0)
  kUniformNll = 2,  ///< row.uniform_nll()  logsumexp(x) - mean(x)
  kLogSumExp = 4,   ///< row.lse()          logsumexp(x), minus the energy
  kSquareNorm = 8,  ///< row.sqnorm()       ||x||^2
  kTarget = 16,     ///< row.target()       x[y]; an OOD row has none (0)
};
inline constexpr int kStatistics = 5;

/// What the mean of a term divides by.
enum class Balance {
  kDefault,        ///< what the objective's paper does
  kPerPopulation,  ///< ID rows by their number, OOD rows by theirs
  kWholeBatch,     ///< both by the number of rows that take part
};

/// One parameter of an objective: the only place where its name, kind, range and help stand. The
/// kind is the member's: real (double), whole (std::int64_t) or a flag (bool). Its default is the
/// member's initial value.
template <class Formula>
struct Parameter {
  std::string_view name;
  std::variant<double Formula::*, std::int64_t Formula::*, bool Formula::*> member;
  double min;
  double max;
  std::string_view help;
  std::string_view source;     ///< where the default comes from
  bool training_only = false;  ///< steers a training; not an argument of the modules
};

/// A cell of the generic tests in which an objective cannot take part, and why.
struct Exclusion {
  std::string_view test;
  std::string_view reason;
};

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Smallest allowed value of a parameter that must be above 0.
inline constexpr double kAboveZero = std::numeric_limits<double>::min();

template <class N, class... Rest>
constexpr auto terms(const N& first, const Rest&... rest) {
  return std::array<N, 1 + sizeof...(Rest)>{first, rest...};
}

/// A formula may replace the row by a multiple of itself before anything is computed of it: it then
/// has a member `scale(sqnorm)` and all statistics but sqnorm are those of scale(||x||^2) x.
template <class Formula>
concept ScaledFormula = requires(const Formula& f, const Dual<double, 1>& n) {
  f.scale(n);
};

/// A formula may make its terms of the means of what the rows give, over the ID rows and over the
/// others: then it has a member `combine(id, other, both)`, which is a function of the whole batch.
template <class Formula>
concept CombinesMeans = requires(const Formula& f,
                                 const std::array<Dual<double, 1>, Formula::kTerms.size()>& means) {
  f.combine(means, means, true);
};

/// A formula may read further numbers per row, given as extras: row.extra(0), row.extra(1), ...
template <class Formula>
constexpr int extra_count() {
  if constexpr (requires { Formula::kExtras; })
    return static_cast<int>(Formula::kExtras.size());
  else
    return 0;
}

template <class Formula>
constexpr int statistic_count() {
  int n = 0;
  for (unsigned bit = 0; bit < kStatistics; ++bit) n += (Formula::kUses >> bit) & 1u;
  return n;
}

/// Index of a statistic among the variables of a formula.
template <class Formula>
constexpr int variable_index(Statistic s) {
  int n = 0;
  for (unsigned bit = 1; bit < s; bit <<= 1) n += (Formula::kUses & bit) != 0;
  return n;
}

/// A row of dual numbers; V is the number of variables or 0 to evaluate only. F may be Lanes, then
/// it is several rows.
template <class Formula, class F, int V>
struct DualRow {
  using Number = Dual<F, V>;

  F nll_value, uniform_nll_value, lse_value, sqnorm_value, target_value;
  std::array<F, static_cast<std::size_t>(extra_count<Formula>())> extras;

  Number nll() const { return variable<kNll>(nll_value); }
  Number uniform_nll() const { return variable<kUniformNll>(uniform_nll_value); }
  Number lse() const { return variable<kLogSumExp>(lse_value); }
  Number sqnorm() const { return variable<kSquareNorm>(sqnorm_value); }
  Number target() const { return variable<kTarget>(target_value); }
  Number extra(std::size_t i) const {
    return Number::variable(extras[i], statistic_count<Formula>() + static_cast<int>(i));
  }

 private:
  template <Statistic s>
  static Number variable(const F& value) {
    static_assert((Formula::kUses & s) != 0, "the formula uses a statistic that kUses lacks");
    return Number::variable(value, variable_index<Formula>(s));
  }
};

}  // namespace ood
