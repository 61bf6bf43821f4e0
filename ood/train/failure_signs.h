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

/// Of each known class its name and how many training and test samples it has.
std::vector<ClassCount> class_counts(const Task& task);

/// Says that some classes have many times the training samples of others.
void warn_of_imbalance(const Task& task, bool balanced);

}  // namespace ood
