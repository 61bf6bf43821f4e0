#include "ood/objectives/objectosphere.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(Objectosphere);

at::Tensor feature_square_norms(const at::Tensor& features) {
  TORCH_CHECK_VALUE(features.dim() >= 2,
                    "objectosphere: expected features [B, D] or [B, D, ...], got ",
                    features.sym_sizes());
  const auto wide =
      at::isReducedFloatingType(features.scalar_type()) ? features.to(at::kFloat) : features;
  return wide.square().sum(1).unsqueeze(0);
}

}  // namespace ood
