#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <limits>

#include "ood/scores/register.h"

namespace ood {

struct NormMaxLogit {
  static constexpr ScoreCard kCard{
      .name = "norm_max_logit",
      .class_name = "NormMaxLogit",
      .summary = "The largest logit of centred logits divided by their p-norm.",
      .formula = "-max(f - mean f) / ||f - mean f||_p",
      .paper = "Cattelan, Silva: How to Fix a Broken Confidence Estimator, UAI 2024",
      .pitfalls = "Repairs networks trained with label smoothing or mixup. Equal logits: 0.",
      .uses = ScoreCard::kLogits,
  };
  double p = 5;

  static constexpr auto kParameters = std::array{
      Parameter<NormMaxLogit>{"p", &NormMaxLogit::p, 1, 1e3, "of the norm",
                              "a value in the middle of the paper's"},
  };

  at::Tensor compute(const NetworkOutput& o, Tensors) const {
    const auto x = o.logits.to(at::kDouble);
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
    // A class that is masked out, with a logit of -infinity, takes no part.
    const auto masked = x.eq(-std::numeric_limits<double>::infinity());
    const auto mean = x.masked_fill(masked, 0).sum(1, true) / masked.logical_not().sum(1, true);
    const auto centred = (x - mean).masked_fill(masked, 0);
    // Divided by its largest number first: a power of a large one overflows.
    const auto largest = centred.abs().amax(1, true);
    const auto unit = centred / at::where(largest.gt(0), largest, 1.0);
    const auto norm = at::linalg_vector_norm(unit, p, at::IntArrayRef{1});
    const auto equal = at::where(masked.all(1), kNaN, 0.0);
    return at::where(norm.eq(0), equal, unit.amax(1).neg() / norm);
  }
};
OOD_REGISTER_SCORE(NormMaxLogit);

}  // namespace ood
