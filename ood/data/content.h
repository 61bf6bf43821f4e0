#pragma once

#include <string>

#include "ood/data/task.h"

namespace ood {

/// In an order that depends on the samples alone, so that a data set gives the same training in
/// whatever format and order its files are.
Samples in_order_of_content(const Samples& s);

/// Warns of pictures that are outliers in training and OOD in a test, or in training and test:
/// they make the test easier than it is.
void warn_of_overlap(const Task& t);

/// Of the content of the samples that a training sees, and of those it is tested on.
std::string training_fingerprint(const Task& t);
std::string test_fingerprint(const Task& t);

}  // namespace ood
