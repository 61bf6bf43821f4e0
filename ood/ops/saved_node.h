#pragma once

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
    for (const auto& t : tensors) keep(t, /*is_output=*/false);
  }
  /// An output of this very node; once it has its history.
  void save_output(const at::Tensor& t) { keep(t, /*is_output=*/true); }

  /// All that was saved, in order. An error where one has been changed in place since, or was
  /// released by a backward pass.
  std::vector<at::Tensor> saved() {
    const std::lock_guard lock(mutex_);
    std::vector<at::Tensor> out(defined_.size());
    auto next = saved_.begin();
    for (std::size_t i = 0; i < out.size(); ++i)
      if (defined_[i]) out[i] = (next++)->unpack(getptr());
    return out;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (auto& t : saved_) t.reset_data();
  }

 private:
  void keep(const at::Tensor& t, bool is_output) {
    defined_.push_back(t.defined());
    if (t.defined()) saved_.emplace_back(t, is_output);
  }

  std::vector<bool> defined_;
  std::vector<torch::autograd::SavedVariable> saved_;  // the defined ones
};

}  // namespace ood::ops
