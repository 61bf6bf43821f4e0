#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace ood::ops {

/// Whether an op may use its fused path and a C++ autograd function here: on the CPU (or its meta
/// twin), with no tangent of forward-mode differentiation, and not under functorch's interpreter:
/// such a function has neither.
bool fused(const at::Tensor& t);

/// Whether the dispatcher would give an op of these tensors, which may be undefined, to its kernel for
/// the CPU and to nothing else, such as a trace; below autograd.
bool only_cpu_kernels_see(std::initializer_list<const at::Tensor*> tensors);

/// Whether the numbers of `t` are there to be read: not of a call that is traced or vectorised.
bool readable(const at::Tensor& t);

}  // namespace ood::ops
