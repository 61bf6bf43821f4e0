#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace ood::ops {

/// A loss of several tensors that is no formula of one row, with its gradient written out: the two
/// are computed together, where the graph of a dozen small operations would cost more than they do.
struct DirectLoss {
  using Inputs = c10::ArrayRef<at::Tensor>;
  using Numbers = c10::ArrayRef<double>;

  std::string_view name;
  std::size_t inputs, numbers;  ///< how many it takes at least
  /// By ordinary tensor operations: any device and type, any order of derivative, functorch.
  at::Tensor (*composite)(Inputs inputs, Numbers numbers);
  /// On the CPU, inputs of float32 or float64: the loss, a scalar of the type of inputs[0], then
  /// the contiguous gradient of every input whose bit in `wanted` is set; the others may be
  /// undefined.
  std::vector<at::Tensor> (*parts)(Inputs inputs, Numbers numbers, std::int64_t wanted);
};

/// The loss, a scalar; differentiable. inputs[0] decides on device and type. Shapes and labels are
/// the caller's to check.
at::Tensor direct_loss(const DirectLoss& loss, DirectLoss::Inputs inputs,
                       DirectLoss::Numbers numbers);

/// Enters a loss of static storage into the list that its op reads. To be called when the library
/// is loaded, so that a saved graph finds it by name. Returns true.
bool register_direct_loss(const DirectLoss& loss);

/// The labels as int64. A target of a floating type is a TypeError that names the objective.
at::Tensor class_labels(const at::Tensor& target, std::string_view objective);

/// A tensor of one number in the type that a loss of `like` is computed in; another count is a
/// ValueError that names objective and argument.
at::Tensor one_number(const at::Tensor& t, const at::Tensor& like, std::string_view objective,
                      std::string_view argument);

// What the parts of a loss are put together from.

inline bool wants(std::int64_t wanted, std::size_t input) { return (wanted >> input & 1) != 0; }

/// 1 for a sum, 1 / count for a mean; no rows give 0 either way.
inline double mean_factor(bool sum, std::int64_t count) {
  return sum ? 1.0 : 1.0 / static_cast<double>(std::max<std::int64_t>(count, 1));
}

template <class F>
at::Tensor scalar(double value, const at::Tensor& like) {
  auto t = at::empty({}, like.options());
  *t.template mutable_data_ptr<F>() = static_cast<F>(value);
  return t;
}

}  // namespace ood::ops
