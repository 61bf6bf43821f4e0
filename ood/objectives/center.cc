#include "ood/objectives/center.h"

#include <ATen/core/grad_mode.h>
#include <torch/library.h>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/distances.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Center);

at::Tensor center_loss(const at::Tensor& embedding, const at::Tensor& target,
                       const at::Tensor& centers, double radius, std::string_view reduction) {
  const auto distance = own_center_distances(embedding, centers, target);
  return reduce_rows((distance - radius * radius).relu(), target.ge(0), reduction);
}

void center_update_(at::Tensor& centers, const at::Tensor& embedding, const at::Tensor& target,
                    double alpha) {
  const at::NoGradGuard no_grad;
  const auto [means, counts] = class_means(embedding, target, centers.size(0));
  const auto n = counts.to(centers.scalar_type()).unsqueeze(1);
  // sum (x_i - c) = n (mean - c)
  centers.add_(alpha * n * (means - centers) / (1.0 + n));
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "center_loss(Tensor embedding, Tensor target, Tensor centers, float radius=0, "
      "str reduction='mean') -> Tensor",
      center_loss, {at::Tag::pt2_compliant_tag});
  m.def("center_update_(Tensor(a!) centers, Tensor embedding, Tensor target, float alpha) -> ()",
        [](const at::Tensor& centers, const at::Tensor& embedding, const at::Tensor& target,
           double alpha) {
          at::Tensor c = centers;
          center_update_(c, embedding, target, alpha);
        });
}

}  // namespace ood
