// An objective with state in one file, as docs/adding-an-objective.md explains it: features are
// drawn to moving means of their class, and the distance to the nearest mean is the score.
#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ood/ops/distances.h"
#include "ood/ops/row_terms.h"
#include "ood/registry/register.h"

namespace {

using namespace ood;

///   ID:  nll(x, y) + weight ||F - mu_y||^2,   mu_k += momentum (batch mean - mu_k) after a step
struct ClassMeans {
  static constexpr Card kCard{
      .name = "class_means",
      .class_name = "ClassMeansLoss",
      .summary = "Cross-entropy, and features near the moving mean of their class.",
      .formula = "ID: logsumexp(x) - x[y] + weight ||F - mu_y||^2",
      .paper = "an example",
      .score = "class_means",
      .ood_labels = "left out",
      .input = "logits and features",
      .trains_features = true,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"cross_entropy", "pull"};
  static constexpr auto kInputs =
      std::array{Input{"logits", Input::kLogits}, Input{"features", Input::kFeatures}};
  static constexpr auto kState =
      std::array{State{"means"}, State{.name = "counts", .role = State::kExact}};
  static constexpr bool kByClass = true;
  static constexpr bool kByDimension = true;
  static constexpr bool kUpdatesEachStep = true;

  double weight = 0.01;
  double momentum = 0.1;

  static constexpr auto kParameters = std::array{
      Parameter<ClassMeans>{"weight", &ClassMeans::weight, 0, kInfinity, "weight of the pull",
                            "an example"},
      Parameter<ClassMeans>{"momentum", &ClassMeans::momentum, kAboveZero, 1,
                            "share of a batch in the means", "an example"},
  };

  std::vector<at::Tensor> start(const Sizes& sizes) const {
    return {at::zeros({sizes.classes, sizes.dimension}), at::zeros({sizes.classes}, at::kLong)};
  }

  // Inputs, target and state in their order: logits, features, target, means, counts.
  std::vector<Term> composite(Tensors in) const {
    const auto known = in[2].ge(0);
    const auto seen = in[4].gt(0).index_select(0, at::where(known, in[2], at::zeros_like(in[2])));
    const auto distance = own_center_distances(in[1], in[3], in[2]);
    return {{0, cross_entropy(in[0], in[2], "none"), known},
            {1, weight * at::where(seen, distance, at::zeros_like(distance)), known}};
  }

  void update(Tensors in, Tensors state, const Event& event) const {
    if (event.kind == Event::kStep)
      running_means_update_(state[0], state[1], in[1], in[2], momentum);
  }

  void readout(const NetworkOutput& output, Tensors state, Readout& r) const {
    r.score =
        center_distances(output.features, state[0].to(output.features.scalar_type()), true).amin(1);
  }
};

OOD_REGISTER(ClassMeans);

}  // namespace
