#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ood/formula/formula.h"

namespace at {
class Tensor;
}

namespace ood::nn {

enum class Reduction {
  kNone,  ///< shape of the target, 0 where a row takes no part
  kMean,  ///< as the paper averages, or as `balance` says
  kSum,   ///< sum of kNone
};

std::string_view name(Reduction reduction);
std::string_view name(Balance balance);

/// Options common to every objective that is a formula; `Self` is the derived options class, so
/// that setters chain.
template <class Self, class Formula_>
struct LossOptions {
  using Formula = Formula_;

  Formula formula{};
  Reduction reduction_ = Reduction::kMean;
  Balance balance_ = Balance::kDefault;
  std::optional<std::int64_t> ignore_index_;

  Self& reduction(Reduction r) { return reduction_ = r, self(); }
  Reduction reduction() const { return reduction_; }

  /// What the mean divides by. Default: what the paper does.
  Self& balance(Balance b) { return balance_ = b, self(); }
  Balance balance() const { return balance_; }

  /// Rows with this label take no part at all; separate from OOD (any other label < 0).
  /// Default: none.
  Self& ignore_index(std::optional<std::int64_t> label) { return ignore_index_ = label, self(); }
  std::optional<std::int64_t> ignore_index() const { return ignore_index_; }

  /// The formula's parameters in the order of its table.
  std::vector<double> parameters() const {
    std::vector<double> values;
    for (const auto& p : Formula::kParameters) values.push_back(formula.*p.member);
    return values;
  }

 private:
  Self& self() { return static_cast<Self&>(*this); }
};

/// Setter and getter of one parameter of the formula.
#define OOD_OPTION(name)     \
  auto& name(double value) { \
    formula.name = value;    \
    return *this;            \
  }                          \
  double name() const { return formula.name; }

/// The torch::nn module of an objective; defined in ood/nn/formula_loss.h.
template <class Options>
class FormulaLoss;

namespace functional {
/// The function of an objective; its call operator is defined in ood/nn/formula_loss.h.
/// logits [B, C] or [B, C, ...], target [B] or [B, ...] of int64, weight like target or
/// absent, extras [E, B] or [E, B, ...] where the objective reads further numbers per row.
template <class Options>
struct LossFunction {
  at::Tensor operator()(const at::Tensor& logits, const at::Tensor& target,
                        const Options& options = {},
                        const std::optional<at::Tensor>& weight = std::nullopt,
                        const std::optional<at::Tensor>& extras = std::nullopt) const;
};
}  // namespace functional

}  // namespace ood::nn
