#pragma once

#include "ood/train/objective.h"

namespace ood {

/// The means of a formula's terms [T], as its entry balances or combines them.
at::Tensor formula_terms(const ObjectiveEntry& entry, const std::vector<double>& parameters,
                         const at::Tensor& rows, const at::Tensor& target,
                         const std::optional<at::Tensor>& extras);

/// Terms [T] under the entry's names, with their sum.
Losses named(const ObjectiveEntry& entry, const at::Tensor& terms);

}  // namespace ood
