#pragma once

#include "ood/data/task.h"

namespace ood {

/// In an order that depends on the samples alone, so that a data set gives the same training in
/// whatever format and order its files are.
Samples in_order_of_content(const Samples& s);

/// How many samples of these hashes are among others, whose hashes are sorted.
std::int64_t count_among(const std::vector<std::uint64_t>& hashes,
                         const std::vector<std::uint64_t>& others);

/// Sets the fingerprints of a task, of the content of the samples that a training sees and of those it
/// is tested on. Warns of pictures that are in two parts: outliers or known in training and OOD in a
/// test, or in training and held-out or test data.
void look_at_content(Task& task);

}  // namespace ood
