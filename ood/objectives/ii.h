#pragma once

#include "ood/registry/options.h"
#include "ood/registry/slice.h"

namespace ood {

/// II loss: small spread within classes, large distance between the two closest class means of the
/// batch.
///
///   mean_ID ||z_i - mu_{y_i}||^2 - alpha min_{j<k} ||mu_j - mu_k||^2
///
/// mu are the means of the batch, and the gradient flows through them. Fewer than two classes in
/// the batch: the second part is 0. Unbounded below: the embedding needs normalisation. `none` is
/// the first part only, since the second is a quantity of the batch. OOD rows take no part.
///
/// A training normalises the features without an affine part, and trains the last layer beside
/// them with cross-entropy, as the authors' code does by default.
struct Ii {
  static constexpr Card kCard{
      .name = "ii",
      .class_name = "IILoss",
      .summary = "Small spread within classes, large distance between class means.",
      .formula =
          "mean_ID ||z - mu_y||^2 - alpha min_{j<k} ||mu_j - mu_k||^2 + w mean_ID (logsumexp(x) - "
          "x[y]);  z: normalised features",
      .paper =
          "Hassen, Chan: Learning a Neural-network-based Representation for Open Set Recognition, "
          "SDM "
          "2020",
      .score = "center_distance",
      .ood_labels = "left out",
      .input = "an embedding; in a training the normalised features, beside the logits",
      .pitfalls =
          "Unbounded below without normalisation of the embedding; batches need two classes.",
      .trains_features = true,
      .cross_entropy_weight = "cross_entropy",
  };

  static constexpr auto kTerms = std::array<std::string_view, 2>{"intra", "inter"};
  static constexpr auto kInputs = std::array{Input{"embedding", Input::kFeatures}};
  static constexpr auto kState =
      std::array{State{.name = "running.counts", .role = State::kExact},
                 State{.name = "running.centers", .in_loss = false},
                 State{.name = "norm.running_mean", .training_only = true},
                 State{.name = "norm.running_var", .training_only = true}};
  static constexpr bool kByClass = true;
  static constexpr bool kByDimension = true;
  static constexpr bool kUpdatesEachStep = true;

  double alpha = 1;
  bool normalize_by_dim = false;
  double cross_entropy = 64;

  static constexpr auto kParameters = std::array{
      Parameter<Ii>{"alpha", &Ii::alpha, 0, kInfinity, "weight of the distance between means",
                    "the paper has none"},
      Parameter<Ii>{"normalize_by_dim", &Ii::normalize_by_dim, 0, 1,
                    "divide the spread by the dimension, as the authors' code does", "the paper"},
      Parameter<Ii>{"cross_entropy", &Ii::cross_entropy, 0, kInfinity,
                    "weight w of the cross-entropy of the logits, or 0",
                    "the authors' code trains with both; spread and distance are sums over the "
                    "features, of which the small networks have 64",
                    true},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const;
  std::vector<at::Tensor> prepare(Tensors in) const;
  std::vector<Term> composite(Tensors in) const;
  Parts parts(Tensors in, bool sum, std::int64_t wanted) const;
  void update(Tensors in, Tensors state, const Event& event) const;
  at::Tensor distances(const at::Tensor& embedding, Tensors state) const;
  void readout(const NetworkOutput& output, Tensors state, Readout& r) const;
};

namespace nn {
using IILoss = Criterion<PlainOptions<Ii>>;
}
}  // namespace ood
