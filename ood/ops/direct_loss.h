#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <string_view>
#include <vector>

namespace ood::ops {

/// A loss of several tensors that is no formula of one row, with its gradient written out: the two
/// are computed together, where the graph of a dozen small operations would cost more than they do.
struct DirectLoss {
  using Inputs = c10::ArrayRef<at::Tensor>;
  using Numbers = c10::ArrayRef<double>;

  std::string_view name;
  /// By ordinary tensor operations: any device and type, any order of derivative, functorch.
  at::Tensor (*composite)(Inputs inputs, Numbers numbers);
  /// On the CPU, inputs of float32 or float64: the loss, a scalar of the type of inputs[0], then
  /// the contiguous gradient of every input whose bit in `wanted` is set; the others may be
  /// undefined.
  std::vector<at::Tensor> (*parts)(Inputs inputs, Numbers numbers, std::int64_t wanted);
};

/// The loss, a scalar; differentiable. inputs[0] decides on device and type.
at::Tensor direct_loss(const DirectLoss& loss, DirectLoss::Inputs inputs,
                       DirectLoss::Numbers numbers);

/// Enters a loss of static storage into the list that its op reads. To be called when the library
/// is loaded, so that a saved graph finds it by name. Returns true.
bool register_direct_loss(const DirectLoss& loss);

}  // namespace ood::ops
