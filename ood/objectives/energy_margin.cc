#include "ood/objectives/energy_margin.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <cmath>

#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/logistic.h"
#include "ood/ops/row_numbers.h"
#include "ood/ops/row_terms.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(EnergyMargin);

namespace {

enum { kLogits, kLabels, kPhiWeight, kPhiBias, kMultipliers, kBoundary };  // of the inputs
enum { kWeight, kBias, kNumbers, kEdge, kWindow };                         // of all state

constexpr double kNotMeasured = -1;  // in place of L_0

void check(Tensors in) {
  const auto &logits = in[kLogits], &w = in[kPhiWeight], &b = in[kPhiBias];
  TORCH_CHECK_VALUE(logits.dim() >= 2, "energy_margin: expected logits [N, C], got ",
                    logits.sym_sizes());
  TORCH_CHECK_VALUE(w.sym_numel() == 1 && b.sym_numel() == 1,
                    "energy_margin: expected a logistic layer of one weight and one bias, got ",
                    w.sym_sizes(), " and ", b.sym_sizes());
  TORCH_CHECK_VALUE(in.size() <= kMultipliers || in[kMultipliers].sym_numel() == 5,
                    "energy_margin: expected a state of 5 numbers, got ",
                    in[kMultipliers].sym_sizes());
}

/// Means over the ID and OOD rows that the constraints are made of; 0 for an empty population.
struct Means {
  at::Tensor inside, outside, cross_entropy, known;
};

Means means_of(Tensors in, double margin) {
  check(in);
  Means m;
  m.known = in[kLabels].ge(0);
  m.cross_entropy = cross_entropy(in[kLogits], in[kLabels]);
  const auto s = at::logsumexp(ops::widened(in[kLogits]), 1);
  const auto w = in[kPhiWeight].reshape({}), b = in[kPhiBias].reshape({});
  const auto phi = w * s + b, is_known = m.known.to(phi.scalar_type());
  const auto is_other = 1.0 - is_known;
  m.inside = at::sigmoid(phi).mul(is_known).sum() / is_known.sum().clamp_min(1);
  m.outside = at::sigmoid(-(phi + w * margin)).mul(is_other).sum() / is_other.sum().clamp_min(1);
  return m;
}

// psi(c; multiplier, penalty). Both branches in one: with t = max(0, b c + l) the first is
// (t^2 - l^2) / (2 b), too.
at::Tensor augmented_lagrangian(const at::Tensor& c, const at::Tensor& l, const at::Tensor& b) {
  return ((b * c + l).relu().square() - l.square()) / (2 * b);
}

// One update of the multipliers by violations over the training data, float64.
void multipliers_(const at::Tensor& state, const at::Tensor& inside, const at::Tensor& ce,
                  const EnergyMargin& p) {
  const auto type = state.scalar_type();
  const auto stepped = [&](const at::Tensor& l, const at::Tensor& b, const at::Tensor& c) {
    return at::where((b * c.to(type) + l).ge(0), l + (p.rate * c).to(type), l - p.rate * l / b);
  };
  const auto grown = [&](const at::Tensor& b, const at::Tensor& c) {
    return at::where(c.gt(p.tolerance), b * p.growth, b);
  };
  const auto part = state.clone().unbind();  // l1, b1, l2, b2, L_0
  auto l1 = stepped(part[0], part[1], inside);
  const auto l2 = stepped(p.shared_multiplier ? l1 : part[2], part[3], ce);
  if (p.shared_multiplier) l1 = l2;
  state.copy_(at::stack({l1, grown(part[1], inside), l2, grown(part[3], ce), part[4]}));
}

}  // namespace

// The margin is two units of the logistic function wide, so that both terms have a gradient.
std::vector<at::Tensor> EnergyMargin::start(const Sizes&) const {
  const double before = initial_cross_entropy > 0 ? initial_cross_entropy : kNotMeasured;
  const auto one = at::zeros({1});
  return {at::full({1, 1}, -2 * steepness(), one.options()), one,
          at::tensor({0.0, 1.0, 0.0, 1.0, before}).to(one.scalar_type()), at::zeros({}),
          at::zeros({3}, at::kDouble)};
}

// A training's layer learns on (s - boundary) / margin: on s itself its bias and slope would be so
// entangled that a step of one undoes the other. With a positive slope large logits would mean OOD,
// and the margin its opposite; straight through, so that a gradient can bring it back.
std::vector<at::Tensor> EnergyMargin::with_layer(Tensors in) const {
  check(in);
  const bool training = in.size() > kBoundary;
  const auto w = training ? in[kPhiWeight] * steepness() : in[kPhiWeight];
  const auto slope = w + (w.clamp_max(-steepness()) - w).detach();
  const auto bias = training ? in[kPhiBias] - slope.reshape({1}) * in[kBoundary] : in[kPhiBias];
  return {in[kLogits], in[kLabels], slope, bias, in[kMultipliers]};
}

std::vector<Term> EnergyMargin::composite(Tensors in) const {
  return composite_of_layer(with_layer(in));
}

std::vector<Term> EnergyMargin::composite_of_layer(Tensors in) const {
  const auto m = means_of(in, margin);
  const auto of = [&](std::int64_t i) { return in[kMultipliers].select(0, i); };
  // Without ID rows there is no violation, which is not the same as a violation of -false_alarm.
  const auto any = m.known.any();
  const auto psi = [&](const at::Tensor& violation, std::int64_t i) {
    const auto value = augmented_lagrangian(violation, of(i), of(i + 1));
    return at::where(any, value, at::zeros_like(value));
  };
  const auto measured = of(4).ge(0);
  const auto if_measured = [&](const at::Tensor& t) {
    return at::where(measured, t, at::zeros_like(t));
  };
  return {{0, at::where(measured, psi(m.cross_entropy - tau * of(4), 2), m.cross_entropy), {}},
          {1, if_measured(out_weight * m.outside), {}},
          {2, if_measured(psi(m.inside - false_alarm, 0)), {}}};
}

namespace {

// With phi = w s + b for a row's log-sum s, and t = max(0, B c + L):
//
//   d psi(c) / dc = t     d sigmoid(phi) / ds = w sigmoid(phi) sigmoid(-phi)
// The layer is w = slope w0 and b = b0 - w boundary for the parameters w0 and b0, w no larger than
// `most` but as if it were in the gradient.
struct Layer {
  double slope = 1, most = std::numeric_limits<double>::infinity(), boundary = 0;
};

template <class F>
Parts parts_of(const EnergyMargin& p, const Layer& layer, Tensors in, std::int64_t wanted) {
  const auto target = in[kLabels].contiguous();
  const auto state = in[kMultipliers].contiguous();
  const ops::RowNumbers rows(in[kLogits], target, EnergyMargin::kCard.name, /*uses_ood=*/true);
  const std::int64_t n = target.numel();
  const F *s = rows.lse.const_data_ptr<F>(), *nll = rows.nll.const_data_ptr<F>(),
          *now = state.const_data_ptr<F>();
  const bool measured = now[4] >= 0;
  if (measured && n > 0 && (rows.known == 0 || rows.known == n)) {
    TORCH_WARN_ONCE("energy_margin: a batch has no ", rows.known == 0 ? "ID" : "OOD",
                    " rows, so that it ",
                    rows.known == 0 ? "holds no constraint" : "pushes nothing out",
                    "; mix both into every batch");
  }
  const auto* y = target.const_data_ptr<std::int64_t>();
  const double w = std::min(layer.slope * in[kPhiWeight].const_data_ptr<F>()[0], layer.most),
               b = in[kPhiBias].const_data_ptr<F>()[0] - w * layer.boundary;
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
    const double sign = known ? 1 : -1, at = known ? s[i] : s[i] + p.margin;
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
  double terms[3] = {0, p.out_weight * means[0].value, 0}, to_inside = 0, to_ce = 0;
  const auto psi = [&](double violation, const F* multiplier, double& derivative) {
    const double l = multiplier[0], penalty = multiplier[1];
    derivative = std::max(penalty * violation + l, 0.0);
    return (derivative * derivative - l * l) / (2 * penalty);
  };
  double to_mean[2] = {p.out_weight, 0};
  if (!measured) {
    terms[0] = ce;
    terms[1] = to_mean[0] = 0;
    to_ce = 1;
  } else if (rows.known > 0) {
    terms[2] = psi(means[1].value - p.false_alarm, now, to_inside);
    terms[0] = psi(ce - p.tau * now[4], now + 2, to_ce);
    to_mean[1] = to_inside;
  }
  const auto upstream = at::empty({2, n}, rows.nll.options());
  F *to_nll = upstream.mutable_data_ptr<F>(), *to_lse = to_nll + n;
  for (std::int64_t i = 0; i < n; ++i) {
    const bool known = y[i] >= 0;
    to_nll[i] = known ? static_cast<F>(to_ce * shares[1]) : F{0};
    to_lse[i] = static_cast<F>(to_mean[known] * slope[static_cast<std::size_t>(i)]);
  }
  const double to_w = to_mean[0] * means[0].by_w + to_mean[1] * means[1].by_w,
               to_b = to_mean[0] * means[0].by_b + to_mean[1] * means[1].by_b;
  const auto of_layer = [&](double value, int input) {
    return ops::scalar<F>(value, rows.nll).view(in[input].sizes());
  };
  Parts parts{{terms[0], terms[1], terms[2]}, std::vector<at::Tensor>(in.size())};
  auto& to = parts.gradients;
  if (ops::wants(wanted, kLogits)) {
    to[kLogits] = rows.gradient(upstream);
    // What takes no part in the loss has none in the gradient, whatever its numbers.
    if (!measured) to[kLogits].masked_fill_(target.lt(0).unsqueeze(1), 0);
  }
  if (ops::wants(wanted, kPhiWeight))
    to[kPhiWeight] = of_layer(layer.slope * (to_w - layer.boundary * to_b), kPhiWeight);
  if (ops::wants(wanted, kPhiBias)) to[kPhiBias] = of_layer(to_b, kPhiBias);
  return parts;
}

}  // namespace

Parts EnergyMargin::parts(Tensors in, bool, std::int64_t wanted) const {
  check(in);
  const bool training = in.size() > kBoundary;
  return ops::by_type(in[kLogits], "energy_margin", [&](auto zero) {
    using F = decltype(zero);
    Layer layer{.most = -steepness()};
    if (training) layer.slope = steepness(), layer.boundary = *in[kBoundary].const_data_ptr<F>();
    return parts_of<F>(*this, layer, in, wanted);
  });
}

namespace {

// The same of a layer that is taken as it is, of any slope: the peer's form.
constexpr ops::DirectLoss kOfLayer{
    "energy_margin_of_layer",
    kMultipliers + 1,
    kLabels,
    EnergyMargin::kParameters.size(),
    EnergyMargin::kTerms.size(),
    [](Numbers numbers, Tensors in) {
      return with_parameters<EnergyMargin>(numbers.data()).composite_of_layer(in);
    },
    [](Numbers numbers, Tensors in, bool, std::int64_t wanted) {
      check(in);
      return ops::by_type(in[kLogits], "energy_margin", [&](auto zero) {
        return parts_of<decltype(zero)>(with_parameters<EnergyMargin>(numbers.data()), {}, in,
                                        wanted);
      });
    }};
[[maybe_unused]] const bool registered = ops::register_direct_loss(kOfLayer);

}  // namespace

void EnergyMargin::update(Tensors in, Tensors state, const Event& event) const {
  const bool training = state.size() > kEdge;
  if (event.kind == Event::kBegin && (!training || warmup == 0)) measure(state, event);
  if (event.kind == Event::kBegin && training && std::ceil(warmup * event.epochs) >= event.epochs &&
      event.note)
    event.note(
        "energy_margin: its warm-up ends with an epoch and takes the whole training; give it "
        "more epochs or a smaller warmup");
  if (event.kind == Event::kEpoch && (!training || event.epoch >= warmup * event.epochs)) {
    if (state[kNumbers][4].item<double>() < 0)
      measure(state, event);
    else if (!training)
      constrain(state, event);
  }
  if (event.kind != Event::kStep || !training) return;
  std::vector<at::Tensor> all{in[0], in[1]};
  all.insert(all.end(), state.begin(), state.begin() + kWindow);
  const auto m = means_of(with_layer(all), margin);
  const auto counts = m.known.any().logical_and(state[kNumbers][4].ge(0));
  const auto seen = at::stack({m.inside, m.cross_entropy, at::ones_like(m.inside)}).to(at::kDouble);
  state[kWindow].add_(at::where(counts, seen, at::zeros_like(seen)));
  const double per_epoch = updates / event.epochs;
  if (std::floor(event.epoch * per_epoch) != std::floor(event.before * per_epoch))
    update_multipliers(state);
}

// By the means over the steps since the last update, where there were some.
void EnergyMargin::update_multipliers(Tensors state) const {
  const auto& window = state[kWindow];
  const auto mean = window / window[2];
  const auto before = state[kNumbers].clone();
  multipliers_(state[kNumbers], mean[0] - false_alarm,
               mean[1] - tau * state[kNumbers][4].to(at::kDouble), *this);
  state[kNumbers].copy_(at::where(window[2].gt(0), state[kNumbers], before));
  window.zero_();
}

// By the means over the ID rows of a pass.
void EnergyMargin::constrain(Tensors state, const Event& event) const {
  double inside = 0, ce = 0, rows = 0;
  event.pass([&](Tensors in) {
    std::vector<at::Tensor> all{in[kLogits], in[kLabels]};
    all.insert(all.end(), state.begin(), state.end());
    const auto n = in[kLabels].ge(0).sum().item<double>();
    if (n == 0) return;
    const auto m = means_of(with_layer(all), margin);
    inside += n * m.inside.item<double>();
    ce += n * m.cross_entropy.item<double>();
    rows += n;
  });
  TORCH_CHECK_VALUE(rows > 0, "energy_margin: expected batches with ID rows, got none");
  const auto number = [&](double v) { return at::full({}, v, at::kDouble); };
  multipliers_(state[kNumbers], number(inside / rows - false_alarm),
               number(ce / rows - tau * state[kNumbers][4].item<double>()), *this);
}

// L_0, and a logistic layer from which both terms have a gradient: its boundary where as many of
// the training data would be rejected as may be. Drawn at random, it saturates.
void EnergyMargin::measure(Tensors state, const Event& event) const {
  std::vector<at::Tensor> log_sums;
  double ce = 0;
  event.pass([&](Tensors in) {
    const auto known = in[kLabels].ge(0);
    log_sums.push_back(at::logsumexp(ops::widened(in[kLogits]), 1).masked_select(known));
    ce += cross_entropy(in[kLogits], in[kLabels], "sum").item<double>();
  });
  const auto s = log_sums.empty() ? at::Tensor() : std::get<0>(at::cat(log_sums).sort());
  TORCH_CHECK_VALUE(s.defined() && s.numel() > 0,
                    "energy_margin: expected batches with ID rows, got none");
  const auto at = static_cast<std::int64_t>(false_alarm * static_cast<double>(s.numel() - 1));
  if (state.size() > kEdge) {
    state[kEdge].copy_(s[at]);
    state[kWeight].fill_(-2);
    state[kBias].fill_(0);
  } else {
    state[kWeight].fill_(-2 * steepness());
    state[kBias].copy_(2 * steepness() * s[at]);
  }
  state[kNumbers][4].fill_(ce / static_cast<double>(s.numel()));
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "energy_margin_loss(Tensor logits, Tensor target, Tensor phi_weight, Tensor phi_bias, "
      "Tensor state, float margin=10, float false_alarm=0.05, float tau=2, float out_weight=1) -> "
      "Tensor",
      [](const at::Tensor& logits, const at::Tensor& target, const at::Tensor& phi_weight,
         const at::Tensor& phi_bias, const at::Tensor& state, double margin, double false_alarm,
         double tau, double out_weight) {
        auto parameters = get_objective("energy_margin").defaults();
        const double own[] = {margin, false_alarm, tau, out_weight};
        std::copy(std::begin(own), std::end(own), parameters.begin() + 1);
        // Of a copy of the state: it may be updated before the backward pass.
        return ops::direct_loss(
                   kOfLayer,
                   std::vector{logits, target, phi_weight, phi_bias, state.detach().clone()},
                   parameters, Reduction::kMean)
            .loss;
      },
      {at::Tag::pt2_compliant_tag});
  m.def("augmented_lagrangian(Tensor violation, Tensor multiplier, Tensor penalty) -> Tensor",
        augmented_lagrangian, {at::Tag::pt2_compliant_tag});
  m.def(
      "energy_margin_means(Tensor logits, Tensor target, Tensor phi_weight, Tensor phi_bias, "
      "float margin=10) -> (Tensor inside, Tensor outside, Tensor cross_entropy)",
      [](const at::Tensor& logits, const at::Tensor& target, const at::Tensor& phi_weight,
         const at::Tensor& phi_bias, double margin) {
        const auto m = means_of(std::vector{logits, target, phi_weight, phi_bias}, margin);
        return std::make_tuple(m.inside, m.outside, m.cross_entropy);
      });
  m.def(
      "energy_margin_update_(Tensor(a!) state, float inside_violation, float ce_violation, "
      "float rate=1, float growth=1.5, float tolerance=0, bool shared_multiplier=False) -> ()",
      [](const at::Tensor& state, double inside, double ce, double rate, double growth,
         double tolerance, bool shared) {
        const at::NoGradGuard no_grad;
        EnergyMargin p;
        p.rate = rate;
        p.growth = growth;
        p.tolerance = tolerance;
        p.shared_multiplier = shared;
        const auto number = [&](double v) {
          return at::full({}, v, state.options().dtype(at::kDouble));
        };
        multipliers_(state, number(inside), number(ce), p);
      });
}

}  // namespace ood
