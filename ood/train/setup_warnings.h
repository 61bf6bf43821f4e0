#pragma once

#include <string>
#include <vector>

#include "ood/data/task.h"
#include "ood/models/classifier.h"
#include "ood/registry/registry.h"

namespace ood {

/// What of a training will not work as meant, each in one line: what is wrong, why it matters, what
/// to set instead.

/// Before the first step: features that nothing trains, and biases in a network for a one-class
/// objective, which may then map everything onto the center.
std::vector<std::string> setup_warnings(const ObjectiveEntry& entry, const Classifier& network);

/// Says that some classes have many times the training samples of others.
void warn_of_imbalance(const Task& task, bool balanced);

}  // namespace ood
