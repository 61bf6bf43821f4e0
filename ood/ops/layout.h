#pragma once

#include <ATen/core/Tensor.h>

#include "ood/objectives/registry.h"

namespace ood::ops {

/// Checks shapes as F.cross_entropy takes them: logits [C], [B, C] or [B, C, ...], target with the
/// logits' shape less the class dimension,
/// weight like target, extras [E, ...] with E the number the objective reads.
void check_inputs(const ObjectiveEntry& entry, const at::Tensor& logits, const at::Tensor& target,
                  const std::optional<at::Tensor>& extras, const std::optional<at::Tensor>& weight);

/// The dimension of the classes: 0 for [C], else 1.
inline std::int64_t class_dim(const at::Tensor& logits) { return logits.dim() == 1 ? 0 : 1; }

/// [N, C] with the numbers of a row side by side: a view where the layout allows it (also
/// channels-last, sliced and expanded), else a copy.
at::Tensor as_rows(const at::Tensor& logits);

/// A new tensor of rows [N, C] and its view in the shape of `logits`.
struct NewRows {
  at::Tensor rows;
  at::Tensor shaped;
};
NewRows empty_rows_like(const at::Tensor& logits);

}  // namespace ood::ops
