#include "ood/objectives/energy_margin.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/unbind.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <array>
#include <cmath>

#include "ood/objectives/register.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/logistic.h"
#include "ood/ops/row_numbers.h"
#include "ood/ops/row_terms.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(EnergyMargin);

namespace {

void check(const at::Tensor& logits, const at::Tensor& phi_weight, const at::Tensor& phi_bias) {
  TORCH_CHECK_VALUE(logits.dim() >= 2, "energy_margin: expected logits [N, C], got ",
                    logits.sym_sizes());
  TORCH_CHECK_VALUE(phi_weight.sym_numel() == 1 && phi_bias.sym_numel() == 1,
                    "energy_margin: expected a logistic layer of one weight and one bias, got ",
                    phi_weight.sym_sizes(), " and ", phi_bias.sym_sizes());
}

void check_state(const at::Tensor& state) {
  TORCH_CHECK_VALUE(state.sym_numel() == 5, "energy_margin: expected a state of 5 numbers, got ",
                    state.sym_sizes());
}

}  // namespace

EnergyMarginMeans energy_margin_means(const at::Tensor& logits, const at::Tensor& target,
                                      const at::Tensor& phi_weight, const at::Tensor& phi_bias,
                                      double margin) {
  check(logits, phi_weight, phi_bias);
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
  check_state(state);
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

namespace {

using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kLogits, kTarget, kPhiWeight, kPhiBias, kState };  // of the inputs
enum { kMargin, kFalseAlarm, kTau, kOutWeight };          // of the numbers

at::Tensor composite(Inputs in, Numbers n) {
  const auto terms = energy_margin_terms(
      energy_margin_means(in[kLogits], in[kTarget], in[kPhiWeight], in[kPhiBias], n[kMargin]),
      in[kState], n[kFalseAlarm], n[kTau], n[kOutWeight]);
  return terms.classification + terms.outside + terms.inside;
}

// With phi = w s + b for a row's log-sum s, and t = max(0, B c + L):
//
//   d psi(c) / dc = t     d sigmoid(phi) / ds = w sigmoid(phi) sigmoid(-phi)
template <class F>
std::vector<at::Tensor> parts_of(Inputs in, Numbers numbers, std::int64_t wanted) {
  const auto target = in[kTarget].contiguous();
  const auto state = in[kState].contiguous();
  const ops::RowNumbers rows(in[kLogits], target, EnergyMargin::kName, /*uses_ood=*/true);
  const std::int64_t n = target.numel();
  if (n > 0 && (rows.known == 0 || rows.known == n)) {
    TORCH_WARN_ONCE("energy_margin: a batch has no ", rows.known == 0 ? "ID" : "OOD",
                    " rows, so that it ",
                    rows.known == 0 ? "holds no constraint" : "pushes nothing out",
                    "; mix both into every batch");
  }
  const F *s = rows.lse.const_data_ptr<F>(), *nll = rows.nll.const_data_ptr<F>(),
          *now = state.const_data_ptr<F>();
  const auto* y = target.const_data_ptr<std::int64_t>();
  const double w = in[kPhiWeight].const_data_ptr<F>()[0], b = in[kPhiBias].const_data_ptr<F>()[0];
  const double shares[2] = {ops::mean_factor(false, n - rows.known),
                            ops::mean_factor(false, rows.known)};
  // Means over a population: sigmoid(sign phi), and its derivatives by w and b.
  struct {
    double value = 0, by_w = 0, by_b = 0;
  } means[2];
  double ce = 0;
  std::vector<double> slope(static_cast<std::size_t>(n));  // of a row's sigmoid by its log-sum
  for (std::int64_t i = 0; i < n; ++i) {
    const bool known = y[i] >= 0;
    const double sign = known ? 1 : -1, at = known ? s[i] : s[i] + numbers[kMargin];
    const ops::Logistic phi(sign * (w * at + b));
    const double g = sign * phi.sigmoid * phi.sigmoid_minus * shares[known];
    auto& mean = means[known];
    mean.value += phi.sigmoid * shares[known];
    mean.by_w += g * at;
    mean.by_b += g;
    slope[static_cast<std::size_t>(i)] = g * w;
    ce += known ? nll[i] * shares[1] : 0;
  }
  // Of the two constraints.
  double loss = numbers[kOutWeight] * means[0].value, to_inside = 0, to_ce = 0;
  const auto psi = [&](double violation, const F* multiplier, double& derivative) {
    const double l = multiplier[0], penalty = multiplier[1];
    derivative = std::max(penalty * violation + l, 0.0);
    loss += (derivative * derivative - l * l) / (2 * penalty);
  };
  if (rows.known > 0) {
    psi(means[1].value - numbers[kFalseAlarm], now, to_inside);
    psi(ce - numbers[kTau] * now[4], now + 2, to_ce);
  }
  const double to_mean[2] = {numbers[kOutWeight], to_inside};
  const auto upstream = at::empty({2, n}, rows.nll.options());
  F *to_nll = upstream.mutable_data_ptr<F>(), *to_lse = to_nll + n;
  for (std::int64_t i = 0; i < n; ++i) {
    const bool known = y[i] >= 0;
    to_nll[i] = known ? static_cast<F>(to_ce * shares[1]) : F{0};
    to_lse[i] = static_cast<F>(to_mean[known] * slope[static_cast<std::size_t>(i)]);
  }
  const auto of_layer = [&](double by_outside, double by_inside, int input) {
    return ops::scalar<F>(to_mean[0] * by_outside + to_mean[1] * by_inside, rows.nll)
        .view(in[input].sizes());
  };
  std::vector<at::Tensor> parts(6);
  parts[0] = ops::scalar<F>(loss, rows.nll);
  if (ops::wants(wanted, kLogits)) parts[1 + kLogits] = rows.gradient(upstream);
  if (ops::wants(wanted, kPhiWeight))
    parts[1 + kPhiWeight] = of_layer(means[0].by_w, means[1].by_w, kPhiWeight);
  if (ops::wants(wanted, kPhiBias))
    parts[1 + kPhiBias] = of_layer(means[0].by_b, means[1].by_b, kPhiBias);
  return parts;
}

std::vector<at::Tensor> parts(Inputs in, Numbers numbers, std::int64_t wanted) {
  return ops::with_type(in[kLogits], "energy_margin_loss",
                        [&](auto zero) { return parts_of<decltype(zero)>(in, numbers, wanted); });
}

constexpr ops::DirectLoss kDirect{"energy_margin_loss", 5, 4, composite, parts};
[[maybe_unused]] const bool direct_registered = ops::register_direct_loss(kDirect);

}  // namespace

at::Tensor energy_margin_loss(const at::Tensor& logits, const at::Tensor& target,
                              const at::Tensor& phi_weight, const at::Tensor& phi_bias,
                              const at::Tensor& state, double margin, double false_alarm,
                              double tau, double out_weight) {
  check(logits, phi_weight, phi_bias);
  check_state(state);
  // Of a copy of the state: it may be updated before the backward pass.
  const std::vector<at::Tensor> inputs{logits, ops::class_labels(target, EnergyMargin::kName),
                                       phi_weight, phi_bias, state.detach().clone()};
  const std::array numbers{margin, false_alarm, tau, out_weight};
  return logits.dim() == 2 ? ops::direct_loss(kDirect, inputs, numbers)
                           : composite(inputs, numbers);
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
