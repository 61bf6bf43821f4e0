#pragma once

#include <c10/util/SmallVector.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <mutex>
#include <vector>

namespace ood::ops {

/// A node of autograd that saves tensors. What else it keeps are its own members: ag::Function puts
/// them into a dictionary of boxed values, which costs more than the loss of a small batch.
/// Compiled autograd does not know it, and says so.
struct SavedNode : torch::autograd::Node {
  using torch::autograd::Node::Node;

  /// An undefined tensor comes back as such.
  void save(c10::ArrayRef<at::Tensor> tensors) {
    for (const auto& t : tensors) saved_.emplace_back(t, /*is_output=*/false);
  }
  /// An output of this very node; once it has its history.
  void save_output(const at::Tensor& t) { saved_.emplace_back(t, /*is_output=*/true); }

  /// All that was saved, in order. An error where one has been changed in place since, or was
  /// released by a backward pass.
  std::vector<at::Tensor> saved() {
    const std::lock_guard lock(mutex_);
    std::vector<at::Tensor> out;
    out.reserve(saved_.size());
    for (const auto& t : saved_) out.push_back(t.unpack(getptr()));
    return out;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (auto& t : saved_) t.reset_data();
  }

 private:
  // In the node itself: an allocation for each would be felt in a small batch.
  c10::SmallVector<torch::autograd::SavedVariable, 8> saved_;
};

}  // namespace ood::ops
