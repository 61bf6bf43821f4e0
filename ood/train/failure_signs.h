#pragma once

#include "ood/data/task.h"
#include "ood/train/evaluate.h"

namespace ood {

/// What says that a training did not learn, a line each; by held-out and training data, never by
/// test data:
///   - accuracy on known classes that chance explains
///   - scores of known samples that are constant, of an objective that does not classify
///   - an AUROC of held-out ID data against training outliers near a half, for an objective that
///     learns from outliers
std::vector<std::string> failure_signs(Classifier& network, const Objective& objective,
                                       const Task& task, const FittedScores& scores,
                                       const HeldOut& held_out);

}  // namespace ood
