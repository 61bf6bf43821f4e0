#include "ood/objectives/objectosphere.h"

#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(Objectosphere);

at::Tensor feature_square_norms(const at::Tensor& features) {
  TORCH_CHECK_VALUE(features.dim() >= 2,
                    "objectosphere: expected features [B, D] or [B, D, ...], got ",
                    features.sym_sizes());
  const auto wide =
      at::isReducedFloatingType(features.scalar_type()) ? features.to(at::kFloat) : features;
  return wide.square().sum(1).unsqueeze(0);
}

std::vector<at::Tensor> Objectosphere::prepare(Tensors in) const {
  return {in[0], in[2], feature_square_norms(in[1])};
}

// The paper's score.
void Objectosphere::readout(const NetworkOutput& output, Tensors, Readout& r) const {
  r.score = output.logits.softmax(1).amax(1).mul(output.features.square().sum(1).sqrt()).neg();
}

}  // namespace ood
