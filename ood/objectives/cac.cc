#include "ood/objectives/cac.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ood/ops/distances.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(Cac);

std::vector<at::Tensor> Cac::start(const Sizes& sizes) const {
  return {at::eye(sizes.classes) * magnitude};
}

at::Tensor Cac::distances(const at::Tensor& embedding, Tensors state) const {
  return center_distances(embedding, state[0], squared);
}

std::vector<at::Tensor> Cac::prepare(Tensors in) const {
  return {distances(in[0], in.slice(2)).neg(), in[1]};
}

// At test time the anchors are the class means of the training data that is classified correctly.
void Cac::update(Tensors, Tensors state, const Event& event) const {
  if (event.kind != Event::kFinish) return;
  const auto means = at::zeros_like(state[0]);
  const auto counts = at::zeros({state[0].size(0)}, state[0].options().dtype(at::kLong));
  event.pass([&](Tensors in) {
    const auto right = distances(in[0], state).argmin(1).eq(in[1]);
    running_means_update_(means, counts, in[0], at::where(right, in[1], at::full_like(in[1], -1)),
                          0);
  });
  state[0].copy_(at::where(counts.gt(0).unsqueeze(1), means, state[0]));
}

void Cac::readout(const NetworkOutput& output, Tensors state, Readout& r) const {
  const auto d = distances(output.logits, state);
  const auto gamma = d * (1 - d.neg().softmax(1));
  r.logits = d.neg();
  r.evidence = gamma.neg();
  r.score = gamma.amin(1);
}

}  // namespace ood
