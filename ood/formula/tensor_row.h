#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "ood/formula/formula.h"

/// The vocabulary of formulas for tensors with one number a row. Names that ATen gives the same
/// meaning (exp, log, square, sigmoid, where) are found there by argument-dependent look-up.
namespace ood {

inline at::Tensor where(const at::Tensor& condition, const at::Tensor& a, double b) {
  return at::where(condition, a, at::full_like(a, b));
}
inline at::Tensor where(const at::Tensor& condition, double a, const at::Tensor& b) {
  return at::where(condition, at::full_like(b, a), b);
}

inline at::Tensor above_zero(const at::Tensor& x) { return x.gt(0); }

/// The inner `where` keeps the infinite derivative of sqrt out of the graph at 0.
inline at::Tensor root(const at::Tensor& x) {
  const at::Tensor zero = x.eq(0);
  return at::where(zero, at::zeros_like(x), at::sqrt(at::where(zero, at::ones_like(x), x)));
}

inline at::Tensor log1pexp(const at::Tensor& x) { return x.relu() + at::log1p(at::exp(-x.abs())); }

/// A batch of rows as tensors of shape [B]; what DualRow is for one row of numbers.
struct TensorRow {
  at::Tensor nll_value, uniform_nll_value, lse_value, sqnorm_value, target_value;
  at::Tensor extras;  // [E, B]

  const at::Tensor& nll() const { return nll_value; }
  const at::Tensor& uniform_nll() const { return uniform_nll_value; }
  const at::Tensor& lse() const { return lse_value; }
  const at::Tensor& sqnorm() const { return sqnorm_value; }
  const at::Tensor& target() const { return target_value; }
  at::Tensor extra(int i) const { return extras.select(0, i); }
};

}  // namespace ood
