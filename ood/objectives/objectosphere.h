#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// Objectosphere: the entropic open-set loss, and features F of a norm above xi for ID rows and of
/// norm 0 for outliers, one mean over the whole batch:
///
///   ID:  nll(x, y) + alpha max(0, xi - ||F||)^2        OOD:  uniform_nll(x) + alpha ||F||^2
///
/// The norm has subgradient 0 at 0: an ID row whose features are all 0 stays there.
/// extras [1, B]: ||F||^2 per row (ood::feature_square_norms); F are the features before the last
/// layer. Shapes: logits [B, C] or [B, C, ...], target [B] or [B, ...] of int64.
struct Objectosphere {
  static constexpr Card kCard{
      .name = "objectosphere",
      .class_name = "ObjectosphereLoss",
      .summary = "Entropic open-set loss, large features for ID rows and none for outliers.",
      .formula =
          "ID: logsumexp(x) - x[y] + alpha max(0, xi - ||F||)^2;  "
          "OOD: logsumexp(x) - mean(x) + alpha ||F||^2",
      .paper = "Dhamija, Guenther, Boult: Reducing Network Agnostophobia, NeurIPS 2018",
      .score = "objectosphere",
      .ood_labels = "outliers: uniform predictions, features of norm 0",
      .pitfalls = "F are the features before the last layer, not logits or probabilities.",
      .uses_ood = true,
      .balance = Balance::kWholeBatch,
      .trains_features = true,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"entropic", "magnitude"};
  static constexpr auto kExtras = std::array<std::string_view, 1>{"feature_square_norm"};
  static constexpr auto kInputs =
      std::array{Input{"logits", Input::kLogits}, Input{"features", Input::kFeatures}};
  static constexpr unsigned kUses = kNll | kUniformNll;

  double alpha = 1e-4;
  double xi = 50;

  static constexpr auto kParameters = std::array{
      Parameter<Objectosphere>{"alpha", &Objectosphere::alpha, 0, kInfinity,
                               "weight of the feature magnitudes",
                               "default of the authors' script"},
      Parameter<Objectosphere>{"xi", &Objectosphere::xi, 0, kInfinity,
                               "smallest feature norm of ID rows",
                               "default of the authors' script"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    const auto square_norm = row.extra(0);
    return terms(where(known, row.nll(), row.uniform_nll()),
                 alpha * where(known, square(relu(xi - root(square_norm))), square_norm));
  }

  std::vector<at::Tensor> prepare(Tensors in) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
};

/// ||F||^2 of features [B, D] or [B, D, ...] in the form of extras: [1, B] or [1, B, ...]; half
/// types are summed in float32.
at::Tensor feature_square_norms(const at::Tensor& features);

namespace nn {
struct ObjectosphereLossOptions : LossOptions<ObjectosphereLossOptions, Objectosphere> {
  OOD_OPTION(alpha)
  OOD_OPTION(xi)
};
/// Takes (logits, features, target), or (logits, target, weight, extras = feature_square_norms(features)).
using ObjectosphereLoss = Criterion<ObjectosphereLossOptions>;
namespace functional {
inline constexpr LossFunction<ObjectosphereLossOptions> objectosphere;
}
}  // namespace nn
}  // namespace ood
