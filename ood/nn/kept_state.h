#pragma once

#include <torch/nn/module.h>

#include <optional>
#include <string_view>
#include <vector>

#include "ood/ops/objective_loss.h"

namespace ood::nn {

/// The declared state of an objective as parameters and buffers of a module, by its names. What is
/// declared exact keeps type and content when the module is converted: a count in bfloat16 would be
/// another count.
class KeptState {
 public:
  KeptState(const ObjectiveEntry& entry, bool training)
      : entry_(&entry), declared_(entry.state(training)), training_(training) {}

  /// Draws the state anew and registers it in `owner`.
  void start(torch::nn::Module& owner, Numbers parameters, const Sizes& sizes);

  /// Takes over the content of another one's, as it has it, on `device` or where it is.
  void take(const KeptState& other, const std::optional<at::Device>& device);

  /// A tensor by its declared name; an error where there is none.
  const at::Tensor& operator[](std::string_view name) const;
  /// All, in the order of their declaration.
  const std::vector<at::Tensor>& all() const { return tensors_; }
  /// Those that the loss reads; `copied`: buffers as copies, since they are updated before the
  /// backward pass.
  std::vector<at::Tensor> of_loss(bool copied) const;

  /// Converts the owner by `convert` and restores what is exact.
  template <class Convert>
  void keep_exact(const Convert& convert) {
    std::vector<at::Tensor> before;
    for (const auto& t : tensors_) before.push_back(t.detach());
    convert();
    for (std::size_t i = 0; i < tensors_.size(); ++i)
      if (declared_[i].role == State::kExact)
        tensors_[i].set_data(declared_[i].on_host ? before[i] : before[i].to(tensors_[i].device()));
  }

 private:
  const ObjectiveEntry* entry_;
  std::vector<State> declared_;
  std::vector<at::Tensor> tensors_;
  bool training_;
};

}  // namespace ood::nn
