#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "ood/distributed/ranks.h"

namespace ood {

/// How the rows of a batch, ID samples and after them outliers, are spread: each rank has
/// consecutive ID samples and consecutive outliers, as many as the others or one more. The batch is
/// the same for any number of ranks.
class RowSplit {
 public:
  RowSplit(std::int64_t id, std::int64_t outliers, const Ranks& ranks);

  /// This rank's rows of the batch, ascending.
  const std::vector<std::int64_t>& own() const { return own_; }

  /// A tensor [own rows, F], or two of one type that are sent together -> [all rows, F] each, in the
  /// order of the batch, the same bits on every rank. Differentiable: each rank gets the gradient of
  /// its own rows times the number of ranks, so that gradients which are averaged over the ranks
  /// afterwards are those of the whole batch, also of parameters that every rank computes with it.
  std::vector<at::Tensor> gathered(const at::Tensor& own_rows,
                                   const std::optional<at::Tensor>& more = std::nullopt) const;

 private:
  const Ranks& ranks_;
  std::vector<std::int64_t> own_;
  std::int64_t most_ = 0;   // rows of the rank that has most
  at::Tensor order_;        // of the batch's rows among the padded ranks'
  at::Tensor own_indices_;  // own_ as int64
};

}  // namespace ood
