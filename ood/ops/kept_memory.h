#pragma once

#include <ATen/core/Tensor.h>

namespace ood::ops {

/// A new CPU tensor of a size and number type for a gradient. From 8 MiB on
/// its memory is that of the last one that was freed, where it fits: fresh memory of that size is
/// given back to the system and faulted in again at every step by most allocators, which takes
/// longer than the arithmetic. At most one such block waits, so no more is held than one gradient.
at::Tensor empty_for_step(at::IntArrayRef sizes, at::ScalarType type);

}  // namespace ood::ops
