#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "ood/registry/slice.h"

/// What turns values of rows into losses, for all objectives that are no formula.
namespace ood {

/// A loss, and the terms it is the sum of, [T], without graph; undefined for Reduction::kNone.
struct Losses {
  at::Tensor loss, terms;
};

namespace ops {

/// Adds up terms. Rows that are not taken count as 0, and not at all in a mean; no row gives 0.
/// kNone: the sum of the values of each row, without numbers of the batch.
///   keep         bool [N]: other rows take no part at all; undefined: all do
///   weight       [N], multiplies the values of rows; undefined: 1
///   whole_batch  means divide by the number of all rows instead
struct TermOptions {
  at::Tensor keep{}, weight{};
  bool whole_batch = false;
  std::string_view who = "loss";  ///< the objective, for messages
};
Losses add_up_terms(const std::vector<Term>& parts, std::size_t terms, Reduction reduction,
                    const TermOptions& options = {});

/// 1 for a sum, 1 / count for a mean; no rows give 0 either way.
inline double mean_factor(bool sum, std::int64_t count) {
  return sum ? 1.0 : 1.0 / static_cast<double>(std::max<std::int64_t>(count, 1));
}

}  // namespace ops
}  // namespace ood
