#include "ood/objectives/energy_margin.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/unbind.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "ood/objectives/register.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(EnergyMargin);

EnergyMarginMeans energy_margin_means(const at::Tensor& logits, const at::Tensor& target,
                                      const at::Tensor& phi_weight, const at::Tensor& phi_bias,
                                      double margin) {
  TORCH_CHECK_VALUE(logits.dim() >= 2, "energy_margin: expected logits [N, C], got ",
                    logits.sym_sizes());
  TORCH_CHECK_VALUE(phi_weight.sym_numel() == 1 && phi_bias.sym_numel() == 1,
                    "energy_margin: expected a logistic layer of one weight and one bias, got ",
                    phi_weight.sym_sizes(), " and ", phi_bias.sym_sizes());
  EnergyMarginMeans m;
  m.known = target.ge(0);
  m.cross_entropy = cross_entropy(logits, target);
  const auto s = at::logsumexp(logits.to(ops::computing_type(logits)), 1);
  const auto w = phi_weight.reshape({}), b = phi_bias.reshape({});
  const auto phi = w * s + b, is_known = m.known.to(phi.scalar_type());
  const auto is_other = 1.0 - is_known;
  m.inside = at::sigmoid(phi).mul(is_known).sum() / is_known.sum().clamp_min(1);
  m.outside = at::sigmoid(-(phi + w * margin)).mul(is_other).sum() / is_other.sum().clamp_min(1);
  return m;
}

at::Tensor augmented_lagrangian(const at::Tensor& c, const at::Tensor& l, const at::Tensor& b) {
  // Both branches in one: with t = max(0, b c + l) the first is (t^2 - l^2) / (2 b), too.
  return ((b * c + l).relu().square() - l.square()) / (2 * b);
}

EnergyMarginTerms energy_margin_terms(const EnergyMarginMeans& m, const at::Tensor& state,
                                      double false_alarm, double tau, double out_weight) {
  TORCH_CHECK_VALUE(state.sym_numel() == 5, "energy_margin: expected a state of 5 numbers, got ",
                    state.sym_sizes());
  // A copy, since an update in place may come before the backward pass.
  const auto now = state.to(m.inside.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  const auto of = [&](std::int64_t i) { return now.select(0, i); };
  // Without ID rows there is no violation, which is not the same as a violation of -false_alarm.
  const auto any = m.known.any();
  const auto psi = [&](const at::Tensor& violation, std::int64_t i) {
    const auto value = augmented_lagrangian(violation, of(i), of(i + 1));
    return at::where(any, value, at::zeros_like(value));
  };
  return {psi(m.cross_entropy - tau * of(4), 2), out_weight * m.outside,
          psi(m.inside - false_alarm, 0)};
}

at::Tensor energy_margin_loss(const at::Tensor& logits, const at::Tensor& target,
                              const at::Tensor& phi_weight, const at::Tensor& phi_bias,
                              const at::Tensor& state, double margin, double false_alarm,
                              double tau, double out_weight) {
  const auto terms =
      energy_margin_terms(energy_margin_means(logits, target, phi_weight, phi_bias, margin), state,
                          false_alarm, tau, out_weight);
  return terms.classification + terms.outside + terms.inside;
}

void energy_margin_update_(at::Tensor& state, double inside_violation, double ce_violation,
                           double rate, double growth, double tolerance, bool shared_multiplier) {
  const at::NoGradGuard no_grad;
  const auto stepped = [&](const at::Tensor& l, const at::Tensor& b, double c) {
    return at::where((b * c + l).ge(0), l + rate * c, l - rate * l / b);
  };
  const auto grown = [&](const at::Tensor& b, double c) { return c > tolerance ? b * growth : b; };
  const auto part = state.clone().unbind();  // l1, b1, l2, b2, L_0
  auto l1 = stepped(part[0], part[1], inside_violation);
  const auto l2 = stepped(shared_multiplier ? l1 : part[2], part[3], ce_violation);
  if (shared_multiplier) l1 = l2;
  state.copy_(
      at::stack({l1, grown(part[1], inside_violation), l2, grown(part[3], ce_violation), part[4]}));
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "energy_margin_loss(Tensor logits, Tensor target, Tensor phi_weight, Tensor phi_bias, "
      "Tensor state, float margin=10, float false_alarm=0.05, float tau=2, float out_weight=1) -> "
      "Tensor",
      energy_margin_loss, {at::Tag::pt2_compliant_tag});
  m.def("augmented_lagrangian(Tensor violation, Tensor multiplier, Tensor penalty) -> Tensor",
        augmented_lagrangian, {at::Tag::pt2_compliant_tag});
  m.def(
      "energy_margin_means(Tensor logits, Tensor target, Tensor phi_weight, Tensor phi_bias, "
      "float margin=10) -> (Tensor inside, Tensor outside, Tensor cross_entropy)",
      [](const at::Tensor& logits, const at::Tensor& target, const at::Tensor& phi_weight,
         const at::Tensor& phi_bias, double margin) {
        const auto means = energy_margin_means(logits, target, phi_weight, phi_bias, margin);
        return std::make_tuple(means.inside, means.outside, means.cross_entropy);
      });
  m.def(
      "energy_margin_update_(Tensor(a!) state, float inside_violation, float ce_violation, "
      "float rate=1, float growth=1.5, float tolerance=0, bool shared_multiplier=False) -> ()",
      [](const at::Tensor& state, double inside, double ce, double rate, double growth,
         double tolerance, bool shared) {
        at::Tensor s = state;
        energy_margin_update_(s, inside, ce, rate, growth, tolerance, shared);
      });
}

}  // namespace ood
