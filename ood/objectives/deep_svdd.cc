#include "ood/objectives/deep_svdd.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(DeepSvdd);
OOD_REGISTER_DESCRIPTION(DeepSad);

at::Tensor svdd_loss(const at::Tensor& distances, const at::Tensor& target,
                     const at::Tensor& radius, double nu, std::string_view reduction) {
  TORCH_CHECK_VALUE(nu >= 0 && nu <= 1, "deep_svdd: expected nu from 0 to 1, got ", nu);
  if (nu == 0) return reduce_rows(distances, target.ge(0), reduction);
  const auto square = radius.detach().square();
  return reduce_rows(square + (distances - square).relu() / nu, target.ge(0), reduction);
}

at::Tensor svdd_center(const at::Tensor& mean) {
  constexpr double kLeast = 0.1;
  const auto small = mean.abs().lt(kLeast);
  return at::where(small, mean.sign() * kLeast, mean);
}

at::Tensor svdd_radius(const at::Tensor& distances, double nu) {
  return at::quantile(distances.detach().sqrt(), 1 - nu);
}

at::Tensor sad_loss(const at::Tensor& distances, const at::Tensor& semi_target, double eta,
                    double eps, std::string_view reduction) {
  TORCH_CHECK_VALUE(semi_target.sym_sizes() == distances.sym_sizes(),
                    "deep_sad: expected semi-targets of the distances' shape ",
                    distances.sym_sizes(), ", got ", semi_target.sym_sizes());
  const auto shifted = distances + eps;
  const auto labelled = at::where(semi_target.gt(0), eta * shifted, eta / shifted);
  const auto values = at::where(semi_target.eq(0), distances, labelled);
  return reduce_rows(values, at::ones_like(semi_target, at::kBool), reduction);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::vector<at::Tag> tag{at::Tag::pt2_compliant_tag};
  m.def(
      "svdd_loss(Tensor distances, Tensor target, Tensor radius, float nu=0, str reduction='mean') "
      "-> Tensor",
      svdd_loss, tag);
  m.def("svdd_center(Tensor mean) -> Tensor", svdd_center, tag);
  m.def("svdd_radius(Tensor distances, float nu) -> Tensor", svdd_radius, tag);
  m.def(
      "sad_loss(Tensor distances, Tensor semi_target, float eta=1, float eps=1e-6, "
      "str reduction='mean') -> Tensor",
      sad_loss, tag);
}

}  // namespace ood
