#pragma once

#include <string>
#include <vector>

#include "ood/models/classifier.h"
#include "ood/train/objective.h"

namespace ood {

/// What of a training will not work as meant, each in one line: what is wrong, why it matters, what
/// to set instead.

/// Before the first step: parameters of the objective that `optimized` lacks, and biases in a
/// network for a one-class objective, which may then map everything onto the center.
std::vector<std::string> setup_warnings(const ObjectiveEntry& entry, const Classifier& network,
                                        const Objective& objective,
                                        const std::vector<at::Tensor>& optimized);

/// On the first batch: margins of hinges that no row or every row violates, and a temperature whose
/// smallest possible loss is above half of log C.
std::vector<std::string> first_batch_warnings(const ObjectiveEntry& entry,
                                              const std::vector<double>& parameters,
                                              const at::Tensor& logits, const at::Tensor& target);

}  // namespace ood
