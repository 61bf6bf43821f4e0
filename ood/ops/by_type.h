#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace ood::ops {

/// Half types as float32, in which distances and sums are computed; others as they are.
inline at::Tensor widened(const at::Tensor& t) {
  return at::isReducedFloatingType(t.scalar_type()) ? t.to(at::kFloat) : t;
}

/// What body(F{}) gives with the number type F of a float32 or float64 tensor; another type is an error
/// that names the op.
template <class Body>
auto by_type(const at::Tensor& t, const char* op, const Body& body) {
  TORCH_CHECK_TYPE(t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble, op,
                   ": expected float32 or float64, got ", t.scalar_type());
  return t.scalar_type() == at::kDouble ? body(double{}) : body(float{});
}

}  // namespace ood::ops
