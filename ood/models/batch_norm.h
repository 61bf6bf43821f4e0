#pragma once

#include "ood/distributed/sync_batch_norm.h"
#include "ood/torch.h"

namespace ood {

/// A batch normalisation that can be one over the rows of all ranks.
class SpreadNorm {
 public:
  virtual ~SpreadNorm() = default;
  void spread_over(const Ranks& ranks) { ranks_ = ranks.alone() ? nullptr : &ranks; }
  bool is_spread() const { return ranks_ != nullptr; }

 protected:
  const Ranks* ranks_ = nullptr;
};

/// torch::nn::BatchNorm1d or 2d, which it is in one process.
template <class Base>
class SpreadNormImpl : public Base, public SpreadNorm {
 public:
  using Base::Base;

  at::Tensor forward(const at::Tensor& x) {
    if (ranks_ == nullptr || !this->is_training()) return Base::forward(x);
    this->num_batches_tracked += 1;
    return sync_batch_norm(x, this->weight, this->bias, this->running_mean, this->running_var,
                           *this->options.momentum(), this->options.eps(), *ranks_);
  }
};
using BatchNorm1dImpl = SpreadNormImpl<torch::nn::BatchNorm1dImpl>;
using BatchNorm2dImpl = SpreadNormImpl<torch::nn::BatchNorm2dImpl>;
TORCH_MODULE(BatchNorm1d);
TORCH_MODULE(BatchNorm2d);

/// Makes every batch normalisation of a network one over all ranks.
inline void spread_batch_norms(torch::nn::Module& network, const Ranks& ranks) {
  for (const auto& m : network.modules())
    if (auto* norm = dynamic_cast<SpreadNorm*>(m.get())) norm->spread_over(ranks);
}

}  // namespace ood
