#pragma once

#include <ATen/core/Tensor.h>

namespace ood::ops {

/// Anchors on the axes, m times the identity: what class anchor clustering starts with. All
/// distances of a row are then O(K) work. Returns m, or 0 for other centers; those end the search
/// at once.
double axis_anchors(const at::Tensor& centers);

}  // namespace ood::ops
