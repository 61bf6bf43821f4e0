#pragma once

#include <ATen/core/Tensor.h>

#include "ood/registry/registry.h"

namespace ood::ops {

/// Checks shapes as F.cross_entropy takes them: logits [C], [B, C] or [B, C, ...], target with the
/// logits' shape less the class dimension,
/// weight like target, extras [E, ...] with E the number the objective reads.
void check_inputs(const ObjectiveEntry& entry, const at::Tensor& logits, const at::Tensor& target,
                  const std::optional<at::Tensor>& extras, const std::optional<at::Tensor>& weight);

/// The dimension of the classes: 0 for [C], else 1.
inline std::int64_t class_dim(const at::Tensor& logits) { return logits.dim() == 1 ? 0 : 1; }

/// Where the numbers of logits lie: sample i of image o has class c at
/// data[o * outer_stride + i * sample_stride + c * class_stride]. Either the classes of a sample
/// lie side by side (class_stride 1: [B, C], channels-last), or the samples of an image do
/// (sample_stride 1: [B, C, H, W]). The samples' order is that of the target.
struct Layout {
  std::int64_t outer, inner, classes;
  std::int64_t outer_stride, sample_stride, class_stride;
  bool columns;  ///< samples side by side

  std::int64_t samples() const { return outer * inner; }
};

/// A tensor in one of the two layouts: `logits` itself where its strides allow it (also sliced and
/// expanded), else a copy.
struct LaidOut {
  at::Tensor owner;
  Layout layout;
};
LaidOut lay_out(const at::Tensor& logits);

/// A new tensor of the shape of `logits`, laid out like lay_out(logits). Works on meta tensors.
at::Tensor empty_like_layout(const at::Tensor& logits);

/// The same for a gradient that is computed now, on the CPU: see kept_memory.h.
at::Tensor gradient_like(const at::Tensor& logits);

}  // namespace ood::ops
