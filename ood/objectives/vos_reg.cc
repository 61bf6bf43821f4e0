#include "ood/objectives/vos_reg.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>

#include "ood/formula/tensor_row.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/logistic.h"
#include "ood/ops/row_numbers.h"
#include "ood/ops/row_terms.h"
#include "ood/ops/row_values.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(VosReg);

namespace {

const double kLogFloor = std::log(1e-30);
constexpr double kLeastWeight = 1e-38;
// The logarithm of a weight at or below 0: far below any logit, but finite, so that a row without
// positive weights has no gradient rather than NaN.
constexpr double kAbsent = -1e30;

void check_weights(const at::Tensor& logits, const at::Tensor& weights) {
  TORCH_CHECK_VALUE(
      logits.dim() >= 2 && weights.dim() == 1 && weights.sym_size(0) == logits.sym_size(1),
      "vos: expected logits [N, C, ...] and energy weights [C], got ", logits.sym_sizes(), " and ",
      weights.sym_sizes());
}

void check_layer(const at::Tensor& phi_weight, const at::Tensor& phi_bias) {
  TORCH_CHECK_VALUE(phi_weight.sym_numel() == 2 && phi_bias.sym_numel() == 2,
                    "vos: expected a logistic layer with weight [2] and bias [2], got ",
                    phi_weight.sym_sizes(), " and ", phi_bias.sym_sizes());
}

// s of each row: logits [N, C, ...], weights [C] -> [N, ...].
at::Tensor energy_of(const at::Tensor& logits, const at::Tensor& weights) {
  check_weights(logits, weights);
  const auto x = ops::widened(logits);
  const auto w = weights.to(x.scalar_type());  // a half type does not hold the constants
  const auto log_weight = where(w.gt(0), w.clamp_min(kLeastWeight).log(), kAbsent);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(logits.dim()), 1);
  shape[1] = -1;
  const auto s = at::logsumexp(x + log_weight.view(shape), 1);
  return at::where(w.gt(0).any(), s, at::full({}, kLogFloor, s.options()));
}

// CE(W s + b, known) of each row. Of the two outputs only the difference matters.
at::Tensor regularizer(const at::Tensor& energy, const at::Tensor& known,
                       const at::Tensor& phi_weight, const at::Tensor& phi_bias) {
  const auto sign = at::arange(2, phi_weight.options()).mul(2).sub(1);
  const auto margin =
      at::dot(phi_weight.reshape({2}), sign) * energy + at::dot(phi_bias.reshape({2}), sign);
  return at::softplus(at::where(known, -margin, margin));
}

enum { kLogits, kLabels, kWeights, kPhiWeight, kPhiBias };  // of the inputs

}  // namespace

// A logistic layer that starts by calling large log-sums OOD, or nearly so, teaches the network
// just that, and the energy score then ranks the wrong way round. So the slope starts at 1; the
// bias as that of a linear layer with one input.
std::vector<at::Tensor> VosReg::start(const Sizes& sizes) const {
  const auto weights = at::rand({sizes.classes});
  return {weights, at::arange(2).to(weights.scalar_type()).sub(0.5).unsqueeze(1),
          at::rand({2}).mul(2).sub(1)};
}

std::vector<Term> VosReg::composite(Tensors in) const {
  check_weights(in[kLogits], in[kWeights]);
  check_layer(in[kPhiWeight], in[kPhiBias]);
  const auto known = in[kLabels].ge(0);
  const auto rows = alpha * regularizer(energy_of(in[kLogits], in[kWeights]), known, in[kPhiWeight],
                                        in[kPhiBias]);
  std::vector<Term> terms{{0, cross_entropy(in[kLogits], in[kLabels], "none"), known}};
  if (balance) {
    terms.push_back({1, rows, known});
    terms.push_back({1, rows, known.logical_not()});
  } else {
    terms.push_back({1, rows, known.logical_or(known.logical_not())});
  }
  return terms;
}

namespace {

// With m = W s + b and the softmax q of the weighted row:
//
//   d softplus(-+m) / dm = -+sigmoid(-+m)
//   d s / dx_k = q_k                        d s / dw_k = q_k / w_k where w_k > 0, else 0
template <class F>
Parts parts_of(const VosReg& p, Tensors in, bool sum, std::int64_t wanted) {
  const auto logits = in[kLogits].contiguous(), target = in[kLabels].contiguous();
  const auto weights = in[kWeights].contiguous(), phi = in[kPhiWeight].contiguous(),
             bias = in[kPhiBias].contiguous();
  const auto asked = [&](std::size_t input) { return ops::wants(wanted, input); };
  const std::int64_t n = logits.size(0), classes = logits.size(1);
  const double no_smoothing[] = {0};
  const std::optional<at::Tensor> none;
  const ops::LossParts ce = ops::row_loss_cpu(
      {logits, target, none, none, "cross_entropy", no_smoothing, false, std::nullopt}, sum,
      Balance::kPerPopulation, {asked(kLogits), false, false});

  const bool none_positive =
      std::none_of(weights.const_data_ptr<F>(), weights.const_data_ptr<F>() + classes,
                   [](F weight) { return weight > 0; });
  if (none_positive) {
    TORCH_WARN_ONCE(
        "vos_reg: all energy weights are at or below 0, so the regularizer has no gradient; start "
        "from positive ones, with a smaller learning rate or weight decay");
  }

  // x_k + log w_k: its plain log-sum is the weighted one.
  auto log_weights = at::empty({classes}, logits.options());
  const F* w = weights.const_data_ptr<F>();
  F* log_weight = log_weights.mutable_data_ptr<F>();
  for (std::int64_t k = 0; k < classes; ++k)
    log_weight[k] =
        w[k] > 0 ? std::log(std::max(w[k], static_cast<F>(kLeastWeight))) : static_cast<F>(kAbsent);
  const ops::RowNumbers rows(logits + log_weights, target, VosReg::kCard.name, /*uses_ood=*/true);

  const auto* y = target.const_data_ptr<std::int64_t>();
  const F* s = rows.lse.const_data_ptr<F>();
  const auto upstream = at::zeros({2, n}, logits.options());
  F* to_s = upstream.mutable_data_ptr<F>() + n;
  const F *pw = phi.const_data_ptr<F>(), *pb = bias.const_data_ptr<F>();
  const double slope = static_cast<double>(pw[1]) - pw[0],
               offset = static_cast<double>(pb[1]) - pb[0];
  double sums[2] = {0, 0}, to_slope = 0, to_offset = 0;
  double scale[2];
  for (int known = 0; known < 2; ++known) {
    const std::int64_t rows_there = known != 0 ? rows.known : n - rows.known;
    scale[known] = p.alpha * ops::mean_factor(sum, p.balance ? rows_there : n);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const bool known = y[i] >= 0;
    const double t = none_positive ? kLogFloor : s[i], sign = known ? -1 : 1;
    const ops::Logistic margin(sign * (slope * t + offset));
    sums[known] += margin.softplus;
    const double to_margin = scale[known] * sign * margin.sigmoid;
    to_slope += to_margin * t;
    to_offset += to_margin;
    to_s[i] = static_cast<F>(none_positive ? 0 : to_margin * slope);
  }
  Parts parts{{*ce.loss.const_data_ptr<F>(), scale[0] * sums[0] + scale[1] * sums[1]},
              std::vector<at::Tensor>(in.size())};
  auto& to = parts.gradients;
  const auto pair = [&](double difference, const at::Tensor& like) {
    auto g = at::empty(like.sizes(), like.options());
    g.mutable_data_ptr<F>()[0] = static_cast<F>(-difference);
    g.mutable_data_ptr<F>()[1] = static_cast<F>(difference);
    return g;
  };
  if (asked(kPhiWeight)) to[kPhiWeight] = pair(to_slope, phi);
  if (asked(kPhiBias)) to[kPhiBias] = pair(to_offset, bias);
  if (!asked(kLogits) && !asked(kWeights)) return parts;
  const auto to_shifted = rows.gradient(upstream);
  if (asked(kWeights)) {
    auto to_weights = to_shifted.sum(0);
    F* g = to_weights.mutable_data_ptr<F>();
    for (std::int64_t k = 0; k < classes; ++k)
      g[k] = w[k] >= static_cast<F>(kLeastWeight) ? g[k] / w[k] : F{0};
    to[kWeights] = to_weights;
  }
  if (asked(kLogits)) to[kLogits] = ce.logits.add_(to_shifted);
  return parts;
}

}  // namespace

Parts VosReg::parts(Tensors in, bool sum, std::int64_t wanted) const {
  check_weights(in[kLogits], in[kWeights]);
  check_layer(in[kPhiWeight], in[kPhiBias]);
  return ops::by_type(in[kLogits], "vos_reg",
                      [&](auto zero) { return parts_of<decltype(zero)>(*this, in, sum, wanted); });
}

void VosReg::update(Tensors, Tensors state, const Event& event) const {
  if (event.kind != Event::kEpoch || !event.note || state[0].gt(0).any().item<bool>()) return;
  event.note(
      "vos_reg: all energy weights are at or below 0, the regularizer has no gradient; set a "
      "smaller `lr` or `weight-decay`");
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("vos_energy(Tensor logits, Tensor weights) -> Tensor", energy_of,
        {at::Tag::pt2_compliant_tag});
}

}  // namespace ood
