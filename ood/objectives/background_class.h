#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Background class: cross-entropy over C + 1 logits, of which the last stands for everything that
/// is none of the C classes. OOD rows count as that class; the caller's targets are not changed.
///
///   ID:  nll(x, y)        OOD:  nll(x, C)
///
/// With class weights the mean is divided by the sum of the weights of the rows' classes
/// (ood::nn::functional::background_class_weighted).
/// Shapes: logits [B, C + 1] or [B, C + 1, ...], target [B] or [B, ...] of int64.
struct BackgroundClass {
  static constexpr Card kCard{
      .name = "background_class",
      .class_name = "BackgroundClassLoss",
      .summary = "Cross-entropy with one more class for outliers.",
      .formula = "ID: logsumexp(x) - x[y];  OOD: logsumexp(x) - x[C];  x has C + 1 entries",
      .paper =
          "Dhamija, Guenther, Boult: Reducing Network Agnostophobia, NeurIPS 2018 (as its "
          "baseline)",
      .score = "background",
      .ood_labels = "outliers: an additional class",
      .pitfalls = "The network needs one output more than there are classes.",
      .uses_ood = true,
      .balance = Balance::kWholeBatch,
      .ood_is_last_class = true,
  };
  static constexpr auto kTerms = std::array<std::string_view, 1>{"cross_entropy"};
  static constexpr unsigned kUses = kNll;
  static constexpr std::array<Parameter<BackgroundClass>, 0> kParameters{};

  template <class Row, class Known>
  auto operator()(const Row& row, const Known&) const {
    return terms(row.nll());
  }

  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
};

namespace nn {
struct BackgroundClassLossOptions : LossOptions<BackgroundClassLossOptions, BackgroundClass> {};
using BackgroundClassLoss = Criterion<BackgroundClassLossOptions>;
namespace functional {
inline constexpr LossFunction<BackgroundClassLossOptions> background_class;

/// Weighted by class: class_weight [C + 1] -> sum(w l) / sum(w) over the rows.
at::Tensor background_class_weighted(const at::Tensor& logits, const at::Tensor& target,
                                     const at::Tensor& class_weight);
}  // namespace functional
}  // namespace nn
}  // namespace ood
