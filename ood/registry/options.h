#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ood/registry/card.h"
#include "ood/registry/reduction.h"

namespace at {
class Tensor;
}

namespace ood::nn {

using ood::Reduction;

/// Options common to every objective; `Self` is the derived options class, so that setters chain.
template <class Self, class Formula_>
struct LossOptions {
  using Formula = Formula_;

  LossOptions() = default;
  /// The sizes that the objective's state has, in the order of a module's arguments.
  explicit LossOptions(std::int64_t first, std::int64_t second = 0) : sizes{first, second} {}

  std::array<std::int64_t, 2> sizes{};
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
    for (const auto& p : Formula::kParameters)
      values.push_back(
          std::visit([&](auto member) { return static_cast<double>(formula.*member); }, p.member));
    return values;
  }

 private:
  Self& self() { return static_cast<Self&>(*this); }
};

/// Setter and getter of one parameter.
#define OOD_OPTION(name)                      \
  auto& name(decltype(Formula::name) value) { \
    formula.name = value;                     \
    return *this;                             \
  }                                           \
  auto name() const { return formula.name; }

/// Options without setters of their own.
template <class Formula>
struct PlainOptions : LossOptions<PlainOptions<Formula>, Formula> {
  using LossOptions<PlainOptions<Formula>, Formula>::LossOptions;
};

/// The torch::nn module of an objective; defined in ood/nn/criterion.h.
template <class Options>
class Criterion;

namespace functional {
/// The function of an objective; its call operator is defined in ood/nn/criterion.h.
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
