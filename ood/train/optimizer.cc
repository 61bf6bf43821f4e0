#include "ood/train/optimizer.h"

#include "ood/errors.h"

namespace ood {
namespace {

using Sgd = torch::optim::SGDParamState;
using Adam = torch::optim::AdamWParamState;

}  // namespace

Optimizer::Optimizer(const RunOptions& o, std::vector<at::Tensor> parameters,
                     std::size_t of_backbone)
    : parameters_(std::move(parameters)), adamw_(o.optimizer == "adamw") {
  const auto split = parameters_.begin() + static_cast<std::ptrdiff_t>(of_backbone);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  const auto add = [&](std::vector<at::Tensor> part, double share) {
    if (part.empty()) return;
    groups.emplace_back(std::move(part));
    shares_.push_back(share);
  };
  add({parameters_.begin(), split}, o.backbone_lr > 0 ? o.backbone_lr / o.lr : 1);
  add({split, parameters_.end()}, 1);
  if (adamw_)
    optimizer_ = std::make_unique<torch::optim::AdamW>(
        groups, torch::optim::AdamWOptions(o.lr).weight_decay(o.weight_decay));
  else
    optimizer_ = std::make_unique<torch::optim::SGD>(groups, torch::optim::SGDOptions(o.lr)
                                                                 .momentum(o.momentum)
                                                                 .nesterov(o.momentum > 0)
                                                                 .weight_decay(o.weight_decay));
}

// clip_grad_norm_ of torch waits for the norm.
void Optimizer::clip(double norm) {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients, norms;
  for (const auto& p : parameters_)
    if (p.grad().defined()) gradients.push_back(p.grad());
  for (const auto& g : gradients) norms.push_back(g.norm());
  if (norms.empty()) return;
  const auto whole = norms.size() == 1 ? norms[0] : torch::stack(norms).norm();
  const auto share = (norm / (whole + 1e-6)).clamp_max(1);
  for (auto& g : gradients) g.mul_(share);
}

void Optimizer::step(double learning_rate) {
  for (std::size_t g = 0; g < shares_.size(); ++g)
    optimizer_->param_groups()[g].options().set_lr(learning_rate * shares_[g]);
  optimizer_->step();
}

std::vector<std::pair<std::string, at::Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto it = optimizer_->state().find(parameters_[i].unsafeGetTensorImpl());
    if (it == optimizer_->state().end()) continue;
    const auto add = [&](const char* name, const at::Tensor& t) {
      if (t.defined()) out.emplace_back(std::to_string(i) + "." + name, t);
    };
    if (adamw_) {
      const auto& s = static_cast<const Adam&>(*it->second);
      add("step", torch::tensor(s.step()));
      add("exp_avg", s.exp_avg());
      add("exp_avg_sq", s.exp_avg_sq());
    } else {
      add("momentum_buffer", static_cast<const Sgd&>(*it->second).momentum_buffer());
    }
  }
  return out;
}

void Optimizer::restore(const std::vector<std::pair<std::string, at::Tensor>>& state) {
  optimizer_->state().clear();
  for (const auto& [key, tensor] : state) {
    const auto dot = key.find('.');
    const std::size_t i = std::stoul(key.substr(0, dot));
    const std::string name = key.substr(dot + 1);
    if (i >= parameters_.size()) throw DataError("the optimizer's state is of another network");
    if (name != "step" && tensor.sizes() != parameters_[i].sizes())
      throw DataError("the optimizer's state is of another network");
    const auto own = [&](const at::Tensor& t) {
      return t.to(parameters_[i].device(), t.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    };
    auto& slot = optimizer_->state()[parameters_[i].unsafeGetTensorImpl()];
    if (adamw_) {
      if (!slot) slot = std::make_unique<Adam>();
      auto& s = static_cast<Adam&>(*slot);
      if (name == "step") s.step(tensor.item<std::int64_t>());
      if (name == "exp_avg") s.exp_avg(own(tensor));
      if (name == "exp_avg_sq") s.exp_avg_sq(own(tensor));
    } else {
      if (!slot) slot = std::make_unique<Sgd>();
      if (name == "momentum_buffer") static_cast<Sgd&>(*slot).momentum_buffer(own(tensor));
    }
  }
}

}  // namespace ood
