#pragma once

#include <ATen/core/Tensor.h>

namespace ood::ops {

/// Whether an op may use its fused path and a C++ autograd function here: on the CPU (or its meta
/// twin), with no tangent of forward-mode differentiation, and not under functorch's interpreter:
/// such a function has neither.
bool fused(const at::Tensor& t);

/// Whether the numbers of `t` are there to be read: not of a call that is traced or vectorised.
bool readable(const at::Tensor& t);

}  // namespace ood::ops
