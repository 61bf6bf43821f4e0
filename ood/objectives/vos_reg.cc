#include "ood/objectives/vos_reg.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <cmath>

#include "ood/formula/tensor_row.h"
#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(VosReg);

at::Tensor vos_energy(const at::Tensor& logits, const at::Tensor& weights) {
  TORCH_CHECK_VALUE(
      logits.dim() >= 2 && weights.dim() == 1 && weights.sym_size(0) == logits.sym_size(1),
      "vos: expected logits [N, C, ...] and energy weights [C], got ", logits.sym_sizes(), " and ",
      weights.sym_sizes());
  const auto x = logits.to(ops::computing_type(logits));
  // Far below any logit, but finite: a row without positive weights has no gradient rather than
  // NaN.
  const auto log_weight = where(weights.gt(0), weights.clamp_min(1e-38).log(), -1e30);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(logits.dim()), 1);
  shape[1] = -1;
  const auto s = at::logsumexp(x + log_weight.to(x.scalar_type()).view(shape), 1);
  return at::logaddexp(s, at::full({}, std::log(1e-30), s.options()));
}

at::Tensor vos_regularizer(const at::Tensor& energy, const at::Tensor& known,
                           const at::Tensor& phi_weight, const at::Tensor& phi_bias) {
  TORCH_CHECK_VALUE(phi_weight.sym_numel() == 2 && phi_bias.sym_numel() == 2,
                    "vos: expected a logistic layer with weight [2] and bias [2], got ",
                    phi_weight.sym_sizes(), " and ", phi_bias.sym_sizes());
  // Of the two outputs only the difference matters.
  const auto sign = at::arange(2, phi_weight.options()).mul(2).sub(1);
  const auto margin =
      at::dot(phi_weight.reshape({2}), sign) * energy + at::dot(phi_bias.reshape({2}), sign);
  return at::softplus(at::where(known, -margin, margin));
}

at::Tensor vos_reduced_regularizer(const at::Tensor& logits, const at::Tensor& target,
                                   const at::Tensor& weights, const at::Tensor& phi_weight,
                                   const at::Tensor& phi_bias, bool balance,
                                   std::string_view reduction) {
  const auto known = target.ge(0);
  const auto rows = vos_regularizer(vos_energy(logits, weights), known, phi_weight, phi_bias);
  if (reduction == "none") return rows;
  if (reduction == "sum") return rows.sum();
  return balance ? reduce_rows(rows, known, reduction) +
                       reduce_rows(rows, known.logical_not(), reduction)
                 : rows.sum().div(c10::Scalar(rows.sym_numel().max(1)));
}

at::Tensor vos_reg_loss(const at::Tensor& logits, const at::Tensor& target,
                        const at::Tensor& weights, const at::Tensor& phi_weight,
                        const at::Tensor& phi_bias, double alpha, bool balance,
                        std::string_view reduction) {
  return cross_entropy(logits, target, reduction) +
         alpha * vos_reduced_regularizer(logits, target, weights, phi_weight, phi_bias, balance,
                                         reduction);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::vector<at::Tag> tag{at::Tag::pt2_compliant_tag};
  m.def("vos_energy(Tensor logits, Tensor weights) -> Tensor", vos_energy, tag);
  m.def(
      "vos_reg_loss(Tensor logits, Tensor target, Tensor weights, Tensor phi_weight, "
      "Tensor phi_bias, float alpha=0.1, bool balance=False, str reduction='mean') -> Tensor",
      vos_reg_loss, tag);
}

}  // namespace ood
