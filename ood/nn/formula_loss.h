#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <ostream>
#include <string_view>

#include "ood/nn/loss_options.h"
#include "ood/ops/row_terms.h"

/// The torch::nn module and the function of every objective that is a formula.
///
///   ood::nn::OutlierExposureLoss criterion(ood::nn::OutlierExposureLossOptions().alpha(0.5));
///   auto loss = criterion(logits, target);   // target < 0 marks an outlier
///   loss.backward();
namespace ood::nn {

namespace functional {

template <class Options>
at::Tensor LossFunction<Options>::operator()(const at::Tensor& logits, const at::Tensor& target,
                                             const Options& options,
                                             const std::optional<at::Tensor>& weight,
                                             const std::optional<at::Tensor>& extras) const {
  return loss(logits, target, Options::Formula::kName, options.parameters(), extras, weight,
              name(options.reduction()), name(options.balance()), options.ignore_index());
}

}  // namespace functional

template <class Options>
class FormulaLossImpl : public torch::nn::Cloneable<FormulaLossImpl<Options>> {
 public:
  explicit FormulaLossImpl(const Options& options_ = {}) : options(options_) {}

  void reset() override {}

  void pretty_print(std::ostream& stream) const override {
    stream << "ood::nn::" << Options::Formula::kClassName << "(";
    const auto values = options.parameters();
    std::size_t i = 0;
    for (const auto& p : Options::Formula::kParameters)
      stream << (i == 0 ? "" : ", ") << p.name << "=" << values[i], ++i;
    stream << ", reduction=" << name(options.reduction()) << ")";
  }

  /// logits [B, C] or [B, C, ...]; target [B] or [B, ...], int64; weight like target or absent.
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& target,
                     const std::optional<at::Tensor>& weight = std::nullopt,
                     const std::optional<at::Tensor>& extras = std::nullopt) {
    return functional::LossFunction<Options>{}(logits, target, options, weight, extras);
  }

  /// The same for ID rows and outliers in batches of their own: logits_in [N, C], target_in [N],
  /// logits_out [M, C], which may be absent or empty.
  at::Tensor forward_two(const at::Tensor& logits_in, const at::Tensor& target_in,
                         const std::optional<at::Tensor>& logits_out = std::nullopt) {
    if (!logits_out.has_value() || !logits_out->defined() || logits_out->size(0) == 0)
      return forward(logits_in, target_in);
    const auto outlier = at::full({logits_out->size(0)}, -1, target_in.options());
    return forward(at::cat({logits_in, *logits_out}), at::cat({target_in, outlier}));
  }

  Options options;
};

template <class Options>
class FormulaLoss : public torch::nn::ModuleHolder<FormulaLossImpl<Options>> {
 public:
  using torch::nn::ModuleHolder<FormulaLossImpl<Options>>::ModuleHolder;
  using Impl = FormulaLossImpl<Options>;
};

}  // namespace ood::nn
