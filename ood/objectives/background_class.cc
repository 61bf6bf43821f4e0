#include "ood/objectives/background_class.h"

#include "ood/ops/row_terms.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(BackgroundClass);

// The background column takes part in the softmax and is dropped after it.
void BackgroundClass::readout(const NetworkOutput& output, Tensors, Readout& r) const {
  r.score = output.logits.softmax(1).slice(1, 0, -1).amax(1).neg();
}

namespace nn::functional {

at::Tensor background_class_weighted(const at::Tensor& logits, const at::Tensor& target,
                                     const at::Tensor& class_weight) {
  const auto classes = logits.sym_size(logits.dim() == 1 ? 0 : 1);
  TORCH_CHECK_VALUE(class_weight.dim() == 1 && class_weight.sym_size(0) == classes,
                    "background_class: expected a weight for each of the ", classes,
                    " outputs, got shape ", class_weight.sym_sizes());
  const auto label = at::where(target.lt(0), at::full_like(target, classes - 1), target);
  const auto weight = class_weight.index_select(0, label.flatten()).view_as(label);
  const auto sum = loss(logits, target, BackgroundClass::kCard.name, {}, std::nullopt, weight,
                        "sum", "default", std::nullopt);
  return sum / weight.sum().clamp_min(1e-12);
}

}  // namespace nn::functional
}  // namespace ood
