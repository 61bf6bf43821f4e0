#pragma once

#include <optional>

#include "ood/ops/row_values.h"
#include "ood/registry/registry.h"

/// Any objective of the registry by name: what the modules of both languages and the training loop
/// are made of. docs/design.md.
namespace ood {

/// How a loss is reduced; see row_terms.h.
struct ReductionOptions {
  Reduction reduction = Reduction::kMean;
  Balance balance = Balance::kDefault;
  std::optional<std::int64_t> ignore_index{};
  std::optional<at::Tensor> weight{};
};

/// The loss and its terms. `inputs`: the objective's inputs, the target, the state that its loss
/// reads (copies where that is updated before the backward pass), and what was drawn. A ValueError
/// names a parameter out of its range or a shape that does not fit.
Losses objective_loss(const ObjectiveEntry& entry, Numbers parameters, Tensors inputs,
                      const ReductionOptions& options = {});

/// A ValueError where the parameters, the number of inputs with the target, or that of the state is
/// not the objective's.
void check_counts(const ObjectiveEntry& entry, Numbers parameters, std::size_t inputs,
                  std::size_t state);

/// Inputs, target and all state -> what a training step draws at random; undefined: nothing.
at::Tensor objective_draw(const ObjectiveEntry& entry, Numbers parameters, Tensors inputs,
                          const Event& event);

/// Updates the state, without gradient. `inputs`: inputs and target of a step; empty for an event
/// with a pass.
void objective_update(const ObjectiveEntry& entry, Numbers parameters, Tensors inputs,
                      Tensors state, const Event& event);

/// The state at the start, in the order of entry.state(training).
std::vector<at::Tensor> objective_start(const ObjectiveEntry& entry, Numbers parameters,
                                        const Sizes& sizes, bool training);

}  // namespace ood
