#include "ood/ops/dispatch.h"

#include <torch/csrc/autograd/autograd.h>

namespace ood::ops {

std::vector<at::Tensor> gradients_with_graph(
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& output, Tensors inputs,
    std::int64_t wanted, const at::Tensor& upstream) {
  std::vector<at::Tensor> views, asked, all(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    views.push_back(inputs[i].defined() ? inputs[i].view_as(inputs[i]) : at::Tensor());
    if (wants(wanted, i)) asked.push_back(views.back());
  }
  const auto found =
      torch::autograd::grad({output(views)}, asked, {upstream}, /*retain_graph=*/true,
                            /*create_graph=*/true, /*allow_unused=*/true);
  for (std::size_t i = 0, next = 0; i < inputs.size(); ++i)
    if (wants(wanted, i)) all[i] = found[next++];
  return all;
}

}  // namespace ood::ops
