#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <vector>

namespace ood::ops {

/// A node of autograd that saves tensors. What else it keeps are its own members: ag::Function puts
/// them into a dictionary of boxed values, which costs more than the loss of a small batch.
struct SavedNode : torch::autograd::Node {
  using torch::autograd::Node::Node;

  /// An undefined tensor comes back as such.
  void save(c10::ArrayRef<at::Tensor> tensors) {
    saved_.reserve(saved_.size() + tensors.size());
    for (const auto& t : tensors) saved_.emplace_back(t, /*is_output=*/false);
  }
  /// An output of this very node; once it has its history.
  void save_output(const at::Tensor& t) { saved_.emplace_back(t, /*is_output=*/true); }

  /// All that was saved, in order. An error where one has been changed in place since, or was
  /// released by a backward pass.
  std::vector<at::Tensor> saved() {
    std::vector<at::Tensor> out;
    out.reserve(saved_.size());
    for (const auto& t : saved_) out.push_back(t.unpack(getptr()));
    return out;
  }

  void release_variables() override {
    for (auto& t : saved_) t.reset_data();
  }

 private:
  std::vector<torch::autograd::SavedVariable> saved_;
};

}  // namespace ood::ops
