#include "ood/train/optimizer.h"

#include <cmath>

#include "ood/errors.h"

namespace ood {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;  // of AdamW

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const auto& p : parameters)
    if (p.grad().defined()) gradients.push_back(p.grad());
  return gradients;
}

}  // namespace

struct Optimizer::Lists {
  std::vector<at::Tensor> parameters, gradients;
  std::vector<Kept*> kept;

  // A tensor of each, made as zeros where there is none yet.
  std::vector<at::Tensor> state(at::Tensor Kept::*which) const {
    std::vector<at::Tensor> all;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      auto& t = kept[i]->*which;
      if (!t.defined()) t = torch::zeros_like(parameters[i]);
      all.push_back(t);
    }
    return all;
  }
};

Optimizer::Optimizer(const RunOptions& o, std::vector<at::Tensor> parameters,
                     std::size_t of_backbone)
    : parameters_(std::move(parameters)),
      kept_(parameters_.size()),
      of_backbone_(of_backbone),
      backbone_share_(o.backbone_lr > 0 ? o.backbone_lr / o.lr : 1),
      adamw_(o.optimizer == "adamw"),
      momentum_(o.momentum),
      weight_decay_(o.weight_decay) {}

void Optimizer::zero_grad() {
  for (auto& p : parameters_) p.mutable_grad().reset();
}

// clip_grad_norm_ of torch waits for the norm.
void Optimizer::clip(double norm) {
  const torch::NoGradGuard no_grad;
  const auto gradients = gradients_of(parameters_);
  if (gradients.empty()) return;
  const auto norms = at::_foreach_norm(gradients);
  const auto whole = norms.size() == 1 ? norms[0] : torch::stack(norms).norm();
  // Not in place: two parameters may share the storage of theirs.
  const auto shorter = at::_foreach_mul(gradients, (norm / (whole + 1e-6)).clamp_max(1));
  auto next = shorter.begin();
  for (auto& p : parameters_)
    if (p.grad().defined()) p.mutable_grad() = *next++;
}

Optimizer::Lists Optimizer::lists(std::size_t begin, std::size_t end) {
  Lists l;
  for (std::size_t i = begin; i < end; ++i) {
    if (!parameters_[i].grad().defined()) continue;
    l.parameters.push_back(parameters_[i].detach());
    l.gradients.push_back(parameters_[i].grad());
    l.kept.push_back(&kept_[i]);
  }
  return l;
}

void Optimizer::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  const auto part = [&](std::size_t begin, std::size_t end, double lr) {
    // On the CPU one after the other: it gains nothing, and needs room for what lies between.
    const std::size_t at_once = begin < end && parameters_[begin].is_cpu() ? 1 : end - begin;
    for (; begin < end; begin += at_once) {
      const auto l = lists(begin, begin + at_once);
      if (l.parameters.empty()) continue;
      adamw_ ? adamw(l, lr) : sgd(l, lr);
    }
  };
  part(0, of_backbone_, learning_rate * backbone_share_);
  part(of_backbone_, parameters_.size(), learning_rate);
}

//   g += w p      m = mu m + g      p -= lr (g + mu m)
void Optimizer::sgd(const Lists& l, double lr) const {
  // Not in place, as above.
  auto gradients = l.gradients;
  if (weight_decay_ != 0) gradients = at::_foreach_add(gradients, l.parameters, weight_decay_);
  if (momentum_ > 0) {
    const auto momentum = l.state(&Kept::momentum);
    at::_foreach_mul_(momentum, momentum_);
    at::_foreach_add_(momentum, gradients);
    gradients = at::_foreach_add(gradients, momentum, momentum_);
  }
  at::_foreach_add_(l.parameters, gradients, -lr);
}

//   p -= lr w p      m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
//   p -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + e)
void Optimizer::adamw(const Lists& l, double lr) const {
  if (weight_decay_ != 0) at::_foreach_mul_(l.parameters, 1 - lr * weight_decay_);
  const auto mean = l.state(&Kept::mean), square = l.state(&Kept::square);
  at::_foreach_mul_(mean, kBeta1);
  at::_foreach_add_(mean, l.gradients, 1 - kBeta1);
  at::_foreach_mul_(square, kBeta2);
  at::_foreach_addcmul_(square, l.gradients, l.gradients, 1 - kBeta2);
  std::vector<at::Scalar> roots, sizes;
  for (Kept* k : l.kept) {
    const auto steps = static_cast<double>(++k->steps);
    roots.emplace_back(std::sqrt(1 - std::pow(kBeta2, steps)));
    sizes.emplace_back(-lr / (1 - std::pow(kBeta1, steps)));
  }
  const auto deviation = at::_foreach_sqrt(square);
  at::_foreach_div_(deviation, roots);
  at::_foreach_add_(deviation, kEpsilon);
  at::_foreach_addcdiv_(l.parameters, mean, deviation, sizes);
}

std::vector<std::pair<std::string, at::Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    const auto add = [&](const char* name, const at::Tensor& t) {
      if (t.defined()) out.emplace_back(std::to_string(i) + "." + name, t);
    };
    const Kept& k = kept_[i];
    add("momentum_buffer", k.momentum);
    if (k.steps > 0) add("step", torch::tensor(k.steps));
    add("exp_avg", k.mean);
    add("exp_avg_sq", k.square);
  }
  return out;
}

void Optimizer::restore(const std::vector<std::pair<std::string, at::Tensor>>& state) {
  kept_.assign(parameters_.size(), {});
  for (const auto& [key, tensor] : state) {
    const auto dot = key.find('.');
    const std::size_t i = std::stoul(key.substr(0, dot));
    const std::string name = key.substr(dot + 1);
    if (i >= parameters_.size()) throw DataError("the optimizer's state is of another network");
    if (name != "step" && tensor.sizes() != parameters_[i].sizes())
      throw DataError("the optimizer's state is of another network");
    const auto own = [&] { return torch::empty_like(parameters_[i].detach()).copy_(tensor); };
    Kept& k = kept_[i];
    if (!adamw_ && name == "momentum_buffer") k.momentum = own();
    if (adamw_ && name == "step") k.steps = tensor.item<std::int64_t>();
    if (adamw_ && name == "exp_avg") k.mean = own();
    if (adamw_ && name == "exp_avg_sq") k.square = own();
  }
}

}  // namespace ood
