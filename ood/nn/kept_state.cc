#include "ood/nn/kept_state.h"

namespace ood::nn {

void KeptState::start(torch::nn::Module& owner, Numbers parameters, const Sizes& sizes) {
  const auto fresh = objective_start(*entry_, parameters, sizes, training_);
  tensors_.clear();
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    const State& s = declared_[i];
    const std::string name(s.name);
    const auto dot = name.find('.');
    torch::nn::Module* to = &owner;
    if (dot != std::string::npos) {
      const auto prefix = name.substr(0, dot);
      const auto children = owner.named_children();
      const auto* found = children.find(prefix);
      to = (found != nullptr
                ? *found
                : owner.register_module(prefix, std::make_shared<torch::nn::Module>(prefix)))
               .get();
    }
    const auto own = dot == std::string::npos ? name : name.substr(dot + 1);
    const bool fixed = !s.fixed_by.empty() && entry_->value(parameters, s.fixed_by) != 0;
    tensors_.push_back(s.role == State::kParameter && !fixed ? to->register_parameter(own, fresh[i])
                                                             : to->register_buffer(own, fresh[i]));
  }
}

void KeptState::take(const KeptState& other, const std::optional<at::Device>& device) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const auto copy = other.tensors_[i].detach().clone();
    tensors_[i].set_data(device && !declared_[i].on_host ? copy.to(*device) : copy);
    tensors_[i].set_requires_grad(other.tensors_[i].requires_grad());
  }
}

const at::Tensor& KeptState::operator[](std::string_view name) const {
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (declared_[i].name == name) return tensors_[i];
  TORCH_CHECK(false, entry_->name, ": keeps no ", name);
}

std::vector<at::Tensor> KeptState::of_loss(bool copied) const {
  std::vector<at::Tensor> out;
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (declared_[i].in_loss)
      out.push_back(copied && !tensors_[i].requires_grad() ? tensors_[i].clone() : tensors_[i]);
  return out;
}

}  // namespace ood::nn
