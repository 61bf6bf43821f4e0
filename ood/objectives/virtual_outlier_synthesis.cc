#include "ood/objectives/virtual_outlier_synthesis.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/library.h>

#include <algorithm>
#include <boost/math/special_functions/gamma.hpp>
#include <cmath>
#include <vector>

#include "ood/objectives/vos_reg.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(VirtualOutlierSynthesis);

namespace {

void check_state(const VosQueues& s) {
  TORCH_CHECK_VALUE(
      s.queue.dim() == 3 && s.queue.is_floating_point() && s.queue.size(1) > 0,
      "virtual_outlier_synthesis: expected a queue [K, length, D] of a floating type, got ",
      s.queue.sizes(), " of ", s.queue.scalar_type());
  const auto k = s.queue.size(0), d = s.queue.size(2);
  TORCH_CHECK_VALUE(
      s.counts.sizes() == at::IntArrayRef({k}) && s.counts.scalar_type() == at::kLong &&
          s.sums.sizes() == at::IntArrayRef({k, d}) && s.sums.scalar_type() == at::kDouble &&
          s.moment.sizes() == at::IntArrayRef({d, d}) && s.moment.scalar_type() == at::kDouble,
      "virtual_outlier_synthesis: expected counts [", k, "] of int64, sums [", k, ", ", d,
      "] and moment [", d, ", ", d, "] of float64, got ", s.counts.sizes(), " of ",
      s.counts.scalar_type(), ", ", s.sums.sizes(), " of ", s.sums.scalar_type(), " and ",
      s.moment.sizes(), " of ", s.moment.scalar_type());
}

void recompute(VosQueues& s) {
  const auto n = s.counts.clamp_max(s.queue.size(1));
  const auto rows = at::arange(s.queue.size(1), s.counts.options()).unsqueeze(0);
  const auto filled =
      rows.lt(n.unsqueeze(1)).unsqueeze(2).to(s.queue.device(), /*non_blocking=*/true);
  const auto x = at::where(filled, s.queue, at::zeros_like(s.queue)).to(at::kDouble);
  s.sums.copy_(x.sum(1));
  const auto flat = x.flatten(0, 1);
  s.moment.copy_(at::mm(flat.t(), flat));
}

// Row `rows[i]` of the features comes to place `places[i]` of the queues, on any device.
void replace_rows(VosQueues& s, const at::Tensor& features, const std::vector<std::int64_t>& rows,
                  const std::vector<std::int64_t>& places) {
  const auto there = [&](const std::vector<std::int64_t>& indices) {
    return at::tensor(indices).to(s.queue.device(), at::kLong, /*non_blocking=*/true);
  };
  const auto to = there(places);
  auto queue = s.queue.view({-1, s.queue.size(2)});
  const auto given = features.index_select(0, there(rows)), stored = queue.index_select(0, to);
  const auto fresh =
      at::where(given.isfinite().all(1, true), given, stored.to(given.scalar_type()));
  const auto in = fresh.to(at::kDouble), out = stored.to(at::kDouble);
  s.sums.index_add_(0, to.floor_divide(s.queue.size(1)), in - out);
  s.moment.addmm_(at::cat({in, out}).t(), at::cat({in, -out}));
  queue.index_copy_(0, to, fresh.to(queue.scalar_type()));
}

// On the CPU; for another device nobody waits.
std::vector<bool> rows_not_finite(const at::Tensor& features) {
  const auto n = features.size(0), width = features.size(1);
  std::vector<bool> broken(static_cast<std::size_t>(n), false);
  if (!features.is_cpu()) return broken;
  ops::by_type(features, "virtual_outlier_synthesis", [&](auto zero) {
    using F = decltype(zero);
    const F* x = features.const_data_ptr<F>();
    for (std::int64_t i = 0; i < n; ++i, x += width)
      broken[static_cast<std::size_t>(i)] =
          std::any_of(x, x + width, [](F v) { return !std::isfinite(v); });
  });
  return broken;
}

}  // namespace

void vos_enqueue_(VosQueues& s, const at::Tensor& features_in, const at::Tensor& target_in,
                  std::int64_t step) {
  const at::NoGradGuard no_grad;
  const std::int64_t classes = s.queue.size(0), length = s.queue.size(1);
  TORCH_CHECK_VALUE(features_in.dim() == 2 && features_in.size(1) == s.queue.size(2),
                    "virtual_outlier_synthesis: expected features [N, ", s.queue.size(2), "], got ",
                    features_in.sizes());
  TORCH_CHECK_VALUE(target_in.dim() == 1 && target_in.size(0) == features_in.size(0),
                    "virtual_outlier_synthesis: expected target [", features_in.size(0), "], got ",
                    target_in.sizes());
  check_state(s);
  // As the queue holds them: what it later gives up must be what was added.
  const auto features = ops::widened(features_in.detach().to(s.queue.scalar_type())).contiguous();
  const auto target =
      ops::class_labels(target_in, VirtualOutlierSynthesis::kCard.name).cpu().contiguous();
  const auto left_out = rows_not_finite(features);
  auto counts = s.counts.cpu().contiguous();
  auto* count = counts.mutable_data_ptr<std::int64_t>();
  const auto* label = target.const_data_ptr<std::int64_t>();
  bool all_full = true;
  for (std::int64_t k = 0; k < classes; ++k) all_full = all_full && count[k] >= length;
  std::vector<std::int64_t> to_come(static_cast<std::size_t>(classes), 0);
  for (std::int64_t i = 0; i < target.size(0); ++i) {
    TORCH_CHECK_INDEX(label[i] < classes, "virtual_outlier_synthesis: expected labels below ",
                      classes, ", got ", label[i], " in row ", i);
    if (label[i] >= 0 && !left_out[static_cast<std::size_t>(i)])
      ++to_come[static_cast<std::size_t>(label[i])];
  }
  // Of a class with more rows than its queue only the last ones stay, as if taken one by one.
  std::vector<std::int64_t> rows, places;
  for (std::int64_t i = 0; i < target.size(0); ++i) {
    const std::int64_t k = label[i];
    if (k < 0 || left_out[static_cast<std::size_t>(i)] || (!all_full && count[k] >= length))
      continue;
    const std::int64_t place = k * length + count[k]++ % length;
    if (all_full && to_come[static_cast<std::size_t>(k)]-- > length) continue;
    rows.push_back(i);
    places.push_back(place);
  }
  if (!counts.is_same(s.counts)) s.counts.copy_(counts);
  if (rows.empty()) return;
  const bool anew = (step + 1) % kVosRecompute == 0;
  if (!s.queue.is_cpu()) {
    replace_rows(s, features, rows, places);
    if (anew) recompute(s);
    return;
  }
  // [in; out] and [in; -out]: their product is in' in - out' out.
  const auto taken = static_cast<std::int64_t>(rows.size()), width = features.size(1);
  const auto wide = s.moment.options();
  const auto both = at::empty({2 * taken, width}, wide), signed_both = at::empty_like(both);
  auto queue = ops::widened(s.queue).contiguous(), sums = s.sums.contiguous();
  ops::by_type(queue, "virtual_outlier_synthesis", [&](auto zero) {
    using F = decltype(zero);
    const F* from = features.const_data_ptr<F>();
    F* stored = queue.mutable_data_ptr<F>();
    double *plus = both.mutable_data_ptr<double>(), *minus = signed_both.mutable_data_ptr<double>(),
           *sum = sums.mutable_data_ptr<double>();
    for (std::int64_t r = 0; r < taken; ++r) {
      const auto at = static_cast<std::size_t>(r);
      const F* fresh = from + rows[at] * width;
      F* old = stored + places[at] * width;  // zeros where nothing was
      double *in = plus + r * width, *out = plus + (taken + r) * width;
      double *in_too = minus + r * width, *less = minus + (taken + r) * width;
      double* own = sum + places[at] / length * width;
      for (std::int64_t k = 0; k < width; ++k) {
        in[k] = in_too[k] = fresh[k];
        out[k] = old[k];
        less[k] = -out[k];
        own[k] += in[k] - out[k];
        old[k] = fresh[k];
      }
    }
  });
  if (!queue.is_same(s.queue)) s.queue.copy_(queue);
  if (anew) return recompute(s);
  if (!sums.is_same(s.sums)) s.sums.copy_(sums);
  s.moment.addmm_(both.t(), signed_both);
}

at::Tensor vos_covariance(const VosQueues& s) {
  const at::NoGradGuard no_grad;
  const auto n =
      s.counts.clamp_max(s.queue.size(1)).to(s.sums.device(), at::kDouble, /*non_blocking=*/true);
  const auto means = s.sums / n.clamp_min(1).unsqueeze(1);
  const auto centred = s.moment - at::mm((means * n.unsqueeze(1)).t(), means);
  auto covariance = centred / n.sum().clamp_min(1);
  covariance.diagonal().add_(1e-4);
  return covariance;
}

at::Tensor vos_order_radii(const at::Tensor& exponentials, std::int64_t n, std::int64_t d) {
  const auto e = exponentials.to(at::kDouble).contiguous();
  TORCH_CHECK_VALUE(e.dim() >= 1 && e.size(-1) >= 1 && d >= 1,
                    "virtual_outlier_synthesis: expected exponentials [..., select] and a "
                    "dimension of at least 1, got ",
                    e.sizes(), " and ", d);
  const std::int64_t k = e.size(-1);
  TORCH_CHECK_VALUE(k <= n, "virtual_outlier_synthesis: expected select at most sample_from ", n,
                    ", got ", k);
  auto out = at::empty_like(e);
  const double* from = e.const_data_ptr<double>();
  double* to = out.mutable_data_ptr<double>();
  for (std::int64_t row = 0; row < e.numel() / k; ++row) {
    double sum = 0;
    for (std::int64_t j = 0; j < k; ++j) {
      sum += from[row * k + j] / static_cast<double>(n - j);
      // The tail itself: 1 - s would round to 1 and the radius to infinity.
      const double s = -std::expm1(-sum);
      to[row * k + j] = 2 * boost::math::gamma_q_inv(static_cast<double>(d) / 2, s);
    }
  }
  return out;
}

namespace {

constexpr double kLeastJitter = 1e-10, kMostJitter = 1e2;

at::Tensor cholesky_factor(const at::Tensor& s) {
  auto [factor, info] = at::linalg_cholesky_ex(s);
  const double scale = s.diagonal().abs().mean().item<double>();
  for (double jitter = kLeastJitter; info.item<int>() != 0; jitter *= 10) {
    TORCH_CHECK_VALUE(jitter <= kMostJitter && std::isfinite(scale),
                      "virtual_outlier_synthesis: the covariance of the features is not positive "
                      "definite; expected finite features of some spread; lower the learning rate");
    auto more = s.clone();
    more.diagonal().add_(jitter * scale);
    std::tie(factor, info) = at::linalg_cholesky_ex(more);
  }
  return factor;
}

// The same on another device: a few of them at once, and the first that is one, or NaN.
at::Tensor cholesky_factor_there(const at::Tensor& s) {
  const std::vector<double> jitters{0, kLeastJitter, 1e-4, kMostJitter};
  const auto scale = s.diagonal().abs().mean();
  const auto each = at::tensor(jitters).to(s.device(), at::kDouble, /*non_blocking=*/true) * scale;
  const auto [factors, info] =
      at::linalg_cholesky_ex(s + at::diag_embed(each.unsqueeze(1).expand({-1, s.size(0)})));
  const auto works = info.eq(0);
  const auto factor = factors.index_select(0, works.to(at::kInt).argmax().unsqueeze(0)).squeeze(0);
  return at::where(works.any(), factor,
                   at::full({}, std::numeric_limits<double>::quiet_NaN(), s.options()));
}

}  // namespace

at::Tensor vos_sample(const at::Tensor& means, const at::Tensor& covariance,
                      std::int64_t sample_from, std::int64_t select) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK_VALUE(means.dim() == 2 && select >= 1 && select <= sample_from,
                    "virtual_outlier_synthesis: expected means [K, D] and select from 1 to "
                    "sample_from ",
                    sample_from, ", got ", means.sizes(), " and ", select);
  const std::int64_t classes = means.size(0), d = means.size(1);
  TORCH_CHECK_VALUE(covariance.dim() == 2 && covariance.size(0) == d && covariance.size(1) == d,
                    "virtual_outlier_synthesis: expected a covariance [", d, ", ", d, "], got ",
                    covariance.sizes());
  const auto s = covariance.to(at::kDouble);
  const auto factor = s.is_cpu() ? cholesky_factor(s) : cholesky_factor_there(s);
  // Drawn on the CPU: the same numbers for any device.
  const auto options = s.options().device(at::kCPU);
  const auto r =
      vos_order_radii(at::empty({classes, select}, options).exponential_(), sample_from, d).sqrt();
  // mu + L (r u / ||u||) for a standard normal u.
  const auto direction = at::randn({classes * select, d}, options);
  double* u = direction.mutable_data_ptr<double>();
  const double* radius = r.const_data_ptr<double>();
  for (std::int64_t i = 0; i < classes * select; ++i, u += d) {
    double square = 0;
    for (std::int64_t k = 0; k < d; ++k) square += u[k] * u[k];
    const double scale = radius[i] / std::max(std::sqrt(square), 1e-300);
    for (std::int64_t k = 0; k < d; ++k) u[k] *= scale;
  }
  const auto centers = select == 1 ? means : means.repeat_interleave(select, 0);
  return at::mm(direction.to(s.device(), at::kDouble, /*non_blocking=*/true), factor.t())
      .add_(centers)
      .to(means.scalar_type());
}

namespace {

// Of the inputs; then the state of the loss, and the outliers' logits where some were drawn.
enum { kLogits, kFeatures, kLabels, kWeights, kOutliers = kWeights + 3 };
// Of all state.
enum { kQueue = 3, kCounts, kSums, kMoment, kSteps };

VosQueues queues_of(Tensors state) {
  return {state[kQueue], state[kCounts], state[kSums], state[kMoment]};
}

// The label of rows that are left out on a device that nobody asks how many they are. There they are
// values of 0 where no reduction is asked for, and count in the mean over a whole batch.
constexpr std::int64_t kLeftOut = -2;

at::Tensor outliers_of(const VosQueues& s, std::int64_t sample_from, std::int64_t select) {
  const auto means = (s.sums / static_cast<double>(s.queue.size(1))).to(s.queue.scalar_type());
  return vos_sample(means, vos_covariance(s), sample_from, select);
}

// Without outliers there is no regularizer.
VosReg regularized(double alpha, const at::Tensor& labels) {
  VosReg loss;
  loss.alpha = labels.lt(0).any().item<bool>() ? alpha : 0;
  return loss;
}

}  // namespace

std::vector<at::Tensor> VirtualOutlierSynthesis::start(const Sizes& s) const {
  auto state = VosReg{}.start(s);
  const auto k = s.classes, d = s.dimension;
  for (const auto& t :
       {at::zeros({k, sample_number, d}), at::zeros({k}, at::kLong), at::zeros({k, d}, at::kDouble),
        at::zeros({d, d}, at::kDouble), at::zeros({}, at::kLong)})
    state.push_back(t);
  return state;
}

// Once all queues were full before the step, whose features they have by now. Until then a full
// queue takes no more, so that all hold what they can just after the step that fills them.
at::Tensor VirtualOutlierSynthesis::draw(Tensors in, const Event& event) const {
  auto queues = queues_of(in.slice(kWeights));
  queues.counts = queues.counts.cpu();
  const auto length = queues.queue.size(1);
  const auto labels = event.host_target.defined() ? event.host_target : in[kLabels].cpu();
  if (event.epoch < begin * event.epochs) return {};
  const auto missing = queues.counts.lt(length).sum().item<std::int64_t>();
  const auto fresh = labels.ge(0).sum().item<std::int64_t>();
  const auto before = queues.counts.sum().item<std::int64_t>() - fresh;
  if (missing == 0 && before >= queues.counts.size(0) * length)
    return outliers_of(queues, sample_from, select).to(in[kFeatures].scalar_type());
  if (missing > 0 && event.note)
    event.note(c10::str("virtual_outlier_synthesis: at its start ", missing, " of ",
                        queues.queue.size(0),
                        " queues are not full; no outliers until they are; set a smaller "
                        "sample_number (now ",
                        length, ")"));
  return {};
}

std::vector<at::Tensor> VirtualOutlierSynthesis::prepare(Tensors in) const {
  auto rows = in[kLogits], labels = ops::class_labels(in[kLabels], kCard.name);
  TORCH_CHECK_VALUE(labels.dim() == 1, kCard.name, ": expected target [N], got ", labels.sizes());
  if (!labels.is_cpu()) {
    labels = at::where(labels.lt(0), at::full({}, kLeftOut, labels.options()), labels);
  } else if (labels.lt(0).any().item<bool>()) {
    const auto known = labels.ge(0).nonzero().squeeze(1);
    rows = rows.index_select(0, known);
    labels = labels.index_select(0, known);
  }
  const bool outliers = in.size() > kOutliers && labels.numel() > 0;
  if (outliers) {
    rows = at::cat({rows, in[kOutliers].to(rows.scalar_type())});
    labels = at::cat({labels, at::full({in[kOutliers].size(0)}, -1, labels.options())});
  }
  // Without outliers nothing trains the weights and the layer, not even their decay.
  const auto trained = [&](int input) { return outliers ? in[input] : in[input].detach(); };
  return {rows, labels, trained(kWeights), trained(kWeights + 1), trained(kWeights + 2)};
}

std::vector<Term> VirtualOutlierSynthesis::composite(Tensors in) const {
  if (in[1].is_cpu()) return regularized(alpha, in[1]).composite(in);
  VosReg loss;
  loss.alpha = alpha;
  auto terms = loss.composite(in);
  const auto counts = in[1].ne(kLeftOut);
  const auto outliers = in[1].eq(-1).any().logical_and(in[1].ge(0).any());
  for (Term& t : terms) {
    t.taken = t.taken.logical_and(counts);
    if (t.index > 0) t.values = at::where(outliers, t.values, at::zeros_like(t.values));
  }
  return terms;
}

Parts VirtualOutlierSynthesis::parts(Tensors in, bool sum, std::int64_t wanted) const {
  return regularized(alpha, in[1]).parts(in, sum, wanted);
}

void VirtualOutlierSynthesis::update(Tensors in, Tensors state, const Event& event) const {
  if (event.kind != Event::kStep) return;
  auto queues = queues_of(state);
  vos_enqueue_(queues, in[kFeatures], event.host_target.defined() ? event.host_target : in[kLabels],
               state[kSteps].item<std::int64_t>());
  state[kSteps].add_(1);
}

namespace {

at::Tensor sample_meta(const at::Tensor& means, const at::Tensor&, std::int64_t,
                       std::int64_t select) {
  return at::empty_symint({means.sym_size(0) * select, means.sym_size(1)}, means.options());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "vos_enqueue_(Tensor(a!) queue, Tensor(b!) counts, Tensor(c!) sums, Tensor(d!) moment, "
      "Tensor features, Tensor target, int step) -> ()");
  m.def("vos_covariance(Tensor queue, Tensor counts, Tensor sums, Tensor moment) -> Tensor",
        [](const at::Tensor& queue, const at::Tensor& counts, const at::Tensor& sums,
           const at::Tensor& moment) {
          return vos_covariance({queue, counts, sums, moment});
        });
  m.def("vos_sample(Tensor means, Tensor covariance, int sample_from, int select) -> Tensor",
        {at::Tag::nondeterministic_seeded});
  m.def("vos_order_radii(Tensor exponentials, int n, int d) -> Tensor");
}
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) {
  m.impl("vos_enqueue_",
         [](const at::Tensor& queue, const at::Tensor& counts, const at::Tensor& sums,
            const at::Tensor& moment, const at::Tensor& features, const at::Tensor& target,
            std::int64_t step) {
           VosQueues state{queue, counts, sums, moment};
           vos_enqueue_(state, features, target, step);
         });
  m.impl("vos_sample", vos_sample);
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("vos_order_radii", vos_order_radii); }
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("vos_enqueue_",
         [](const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
            const at::Tensor&, const at::Tensor&, std::int64_t) {});
  m.impl("vos_sample", sample_meta);
  m.impl("vos_order_radii",
         [](const at::Tensor& e, std::int64_t, std::int64_t) { return at::empty_like(e); });
}

}  // namespace ood
