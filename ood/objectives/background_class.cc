#include "ood/objectives/background_class.h"

#include "ood/objectives/register.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_FORMULA(BackgroundClass);

namespace nn::functional {

at::Tensor background_class_weighted(const at::Tensor& logits, const at::Tensor& target,
                                     const at::Tensor& class_weight) {
  const auto classes = logits.sym_size(logits.dim() == 1 ? 0 : 1);
  TORCH_CHECK_VALUE(class_weight.dim() == 1 && class_weight.sym_size(0) == classes,
                    "background_class: expected a weight for each of the ", classes,
                    " outputs, got shape ", class_weight.sym_sizes());
  const auto label = at::where(target.lt(0), at::full_like(target, classes - 1), target);
  const auto weight = class_weight.index_select(0, label.flatten()).view_as(label);
  const auto sum = loss(logits, target, BackgroundClass::kName, {}, std::nullopt, weight, "sum",
                        "default", std::nullopt);
  return sum / weight.sum().clamp_min(1e-12);
}

}  // namespace nn::functional
}  // namespace ood
