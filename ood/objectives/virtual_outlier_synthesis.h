#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// VOS without outliers: they are drawn from the rim of Gaussians fitted to the features.
///
/// Queues hold the last features of each class. Their means mu_k and one shared covariance S (plus
/// 1e-4 I) give N(mu_k, S) per class; of `sample_from` draws the `select` least likely ones are
/// outliers, go through the network's last layer and into the loss of VosReg. No gradient reaches
/// the features through them. Synthesis begins at `start` once all queues were full before a step.
struct VirtualOutlierSynthesis {
  static constexpr Card kCard{
      .name = "virtual_outlier_synthesis",
      .class_name = "VirtualOutlierSynthesizingRegLoss",
      .summary =
          "As vos_reg, with outliers drawn from the rim of Gaussians fitted to the features.",
      .formula =
          "v = mu_k + r L u, the least likely of sample_from draws;  vos_reg of ID rows and "
          "last(v)",
      .paper =
          "Du et al.: VOS, Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022",
      .score = "energy",
      .ood_labels = "left out",
      .input = "logits, features and the last layer",
      .pitfalls =
          "Until all queues are full nothing is synthesized: a class with few samples delays all.",
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "regularizer"};
  static constexpr auto kInputs =
      std::array{Input{"logits", Input::kLogits}, Input{"features", Input::kFeatures}};
  static constexpr auto kState = std::array{
      State{.name = "weights", .role = State::kParameter},
      State{.name = "phi.weight", .role = State::kParameter},
      State{.name = "phi.bias", .role = State::kParameter},
      State{.name = "queue", .in_loss = false, .python_holder = "queues"},
      State{.name = "counts",
            .role = State::kExact,
            .in_loss = false,
            .on_host = true,
            .python_holder = "queues"},
      State{.name = "sums", .role = State::kExact, .in_loss = false, .python_holder = "queues"},
      State{.name = "moment", .role = State::kExact, .in_loss = false, .python_holder = "queues"},
      State{.name = "steps",
            .role = State::kExact,
            .in_loss = false,
            .on_host = true,
            .python_holder = "queues"}};
  static constexpr bool kByClass = true;
  static constexpr bool kByDimension = true;
  static constexpr bool kOutliersThroughHead = true;
  static constexpr bool kUpdatesEachStep = true;
  static constexpr bool kUpdatesFirst = true;
  static constexpr auto kCppOrder =
      std::array<std::string_view, 4>{"sample_number", "sample_from", "select", "alpha"};
  static constexpr auto kExclusions = std::array{
      Exclusion{"one_graph", "whether outliers are drawn depends on what the queues hold"}};

  double alpha = 0.1;
  std::int64_t sample_number = 1000;
  std::int64_t sample_from = 10000;
  std::int64_t select = 1;
  double begin = 0.4;

  using Self = VirtualOutlierSynthesis;
  static constexpr auto kParameters = std::array{
      Parameter<Self>{"alpha", &Self::alpha, 0, kInfinity, "weight of the regularizer",
                      "the authors' code"},
      Parameter<Self>{"sample_number", &Self::sample_number, 2, 1e7,
                      "features a class in the queues", "the authors' code"},
      Parameter<Self>{"sample_from", &Self::sample_from, 1, 1e12, "draws a class",
                      "the authors' code"},
      Parameter<Self>{"select", &Self::select, 1, 1e6, "outliers a class and step",
                      "the authors' code"},
      Parameter<Self>{"start", &Self::begin, 0, 1, "share of the training before the first outlier",
                      "the authors' code: epoch 40 of 100", true},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  at::Tensor draw(Tensors in, const Event& event) const;
  std::vector<at::Tensor> prepare(Tensors in) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;
};

namespace nn {
using VirtualOutlierSynthesizingRegLoss = Criterion<PlainOptions<VirtualOutlierSynthesis>>;
}

/// The state of the queues; all are buffers of a module.
///   queue    [K, M, D]  ring buffers
///   counts   [K] int64  features ever taken into a queue; better on the CPU, wherever the rest is
///   sums     [K, D] float64: sum of the features
///   moment   [D, D] float64: sum of their outer products
struct VosQueues {
  at::Tensor queue, counts, sums, moment;
};
/// Updates of sums and moment after which vos_enqueue_ computes them anew from the queues, so that
/// rounding does not pile up.
inline constexpr std::int64_t kVosRecompute = 1000;

/// Takes the features [N, D] of rows with target >= 0 into the queues. A full queue takes no more
/// until all are full; then the oldest features go. Features that are not finite are left out; on
/// another device, which nobody waits for, those that they would replace stay. `step` counts the
/// calls. A target on another device is waited for.
void vos_enqueue_(VosQueues& state, const at::Tensor& features, const at::Tensor& target,
                  std::int64_t step);

/// The shared covariance [D, D] float64 of the queues, plus 1e-4 I.
at::Tensor vos_covariance(const VosQueues& state);

/// select outliers a class [K * select, D], least likely first: equal in distribution to drawing
/// sample_from samples and keeping the select least likely ones. Torch's generator. Where the
/// covariance has no Cholesky factor its diagonal grows by powers of ten until it has; a ValueError
/// after 1e2 times its mean, or on another device, for which nobody waits, NaN.
at::Tensor vos_sample(const at::Tensor& means, const at::Tensor& covariance,
                      std::int64_t sample_from, std::int64_t select);

/// r^2 of the j-th largest of n radii of d-dimensional standard normals, from exponentials
/// E_1..E_j (last dimension): s_j = -expm1(-sum E_i / (n - i + 1)), r^2 = 2 Q^-1(d / 2, s_j).
at::Tensor vos_order_radii(const at::Tensor& exponentials, std::int64_t n, std::int64_t d);

}  // namespace ood
