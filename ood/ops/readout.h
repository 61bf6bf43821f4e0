#pragma once

#include "ood/registry/registry.h"

namespace ood {

/// What an objective makes of a network's output: logits of the classes, which are the evidence
/// unless the objective says otherwise, and its own score where it has one.
Readout read_out(const ObjectiveEntry& entry, Numbers parameters, const NetworkOutput& output,
                 Tensors state);

/// The inputs of an objective in a training, as its card asks for them, and the target it wants.
std::vector<at::Tensor> training_inputs(const ObjectiveEntry& entry, Numbers parameters,
                                        const NetworkOutput& output, const at::Tensor& target);

}  // namespace ood
