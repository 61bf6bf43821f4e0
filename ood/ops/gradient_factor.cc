#include "ood/ops/gradient_factor.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>

#include "ood/ops/functorch.h"

namespace ood::ops {
namespace {

// Whether `t` is the number 1, as it is for loss.backward(). Not known while a graph is traced.
bool is_one(const at::Tensor& t) {
  if (t.dim() != 0 || !readable(t)) return false;
  return t.scalar_type() == at::kDouble ? *t.const_data_ptr<double>() == 1
                                        : *t.const_data_ptr<float>() == 1;
}

}  // namespace

// With retain_graph the saved gradient is needed again; what is given away may be changed.
GradientFactor::GradientFactor(const at::Tensor& upstream)
    : upstream_(upstream),
      give_away_(is_one(upstream) && !torch::autograd::get_current_graph_task_keep_graph()) {}

at::Tensor GradientFactor::times(const at::Tensor& gradient) const {
  return give_away_ ? gradient : gradient.mul(upstream_);
}

}  // namespace ood::ops
