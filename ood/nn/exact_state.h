#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace ood::nn {

/// Base of modules with counts and exact sums: their buffers keep type and content when the module
/// is converted by to(dtype). A count in bfloat16 would be another count.
class ExactState : public torch::nn::Module {
 public:
  using torch::nn::Module::to;
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override {
    keep([&] { Module::to(device, dtype, non_blocking); });
  }
  void to(torch::Dtype dtype, bool non_blocking = false) override {
    keep([&] { Module::to(dtype, non_blocking); });
  }

 protected:
  /// register_buffer for a tensor that keeps its type.
  at::Tensor register_exact(const std::string& name, const at::Tensor& tensor) {
    exact_.push_back(register_buffer(name, tensor));
    return exact_.back();
  }

 private:
  template <class Convert>
  void keep(const Convert& convert) {
    std::vector<at::Tensor> before;
    for (const auto& t : exact_) before.push_back(t.detach());
    convert();
    for (std::size_t i = 0; i < exact_.size(); ++i)
      exact_[i].set_data(before[i].to(exact_[i].device()));
  }

  std::vector<at::Tensor> exact_;
};

}  // namespace ood::nn
