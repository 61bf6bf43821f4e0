#include "ood/distributed/sync_batch_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm_update_stats.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace ood {
namespace {

namespace ag = torch::autograd;

// (x - mean) / sqrt(var + eps) weight + bias with what is given, in one pass over any layout of x.
at::Tensor normalised_by(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& mean, const at::Tensor& var, double eps) {
  return std::get<0>(at::native_batch_norm(x, weight, bias, mean, var, /*training=*/false, 0, eps));
}

// Of bfloat16 as well, whose own numbers would be too coarse.
at::ScalarType statistics_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

struct SyncNorm : ag::Function<SyncNorm> {
  static at::Tensor forward(ag::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, at::Tensor running_mean, at::Tensor running_var,
                            double momentum, double eps, const Ranks* ranks) {
    const auto channels = x.size(1);
    const auto type = statistics_type(x);
    const auto [mean_here, var_here] = at::batch_norm_update_stats(x.to(type), {}, {}, 0);
    const auto mean_64 = mean_here.to(at::kDouble);
    const auto n_here = static_cast<double>(x.numel() / channels);
    // n, n mean, n (var + mean^2) add up; float64 leaves the difference of the last two exact enough.
    auto sums = at::cat({at::full({1}, n_here, at::kDouble), mean_64 * n_here,
                         (var_here.to(at::kDouble) + mean_64 * mean_64) * n_here});
    ranks->start_sum(sums)();
    const auto n = sums[0];
    const auto mean = sums.slice(0, 1, 1 + channels) / n;
    const auto var = (sums.slice(0, 1 + channels) / n - mean * mean).clamp_min(0);
    running_mean.mul_(1 - momentum).add_(mean, momentum);
    running_var.mul_(1 - momentum).add_(var * (n / (n - 1)), momentum);
    const auto mean_x = mean.to(type), var_x = var.to(type);
    ctx->save_for_backward({x, weight, mean_x, var_x, n});
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["ranks"] = reinterpret_cast<std::int64_t>(ranks);
    return normalised_by(x, weight, bias, mean_x, var_x, eps);
  }

  // With r = 1 / sqrt(var + eps), h = (x - mean) r and sums over all rows:
  //   dx = weight r (dy - sum dy / n - h sum(dy h) / n)
  // The first term, and the two sums of this rank, are those of fixed statistics.
  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &mean = saved[2], &var = saved[3], &n = saved[4];
    const double eps = ctx->saved_data["eps"].toDouble();
    const auto* ranks = reinterpret_cast<const Ranks*>(ctx->saved_data["ranks"].toInt());
    const auto [dx, dw, db] = at::native_batch_norm_backward(
        gradients[0], x, weight, mean, var, {}, {}, /*train=*/false, eps, {true, true, true});
    auto sums = at::stack({db, dw}).to(at::kDouble);
    ranks->start_sum(sums)();
    const auto r = (var.to(at::kDouble) + eps).rsqrt();
    const auto scale = weight.to(at::kDouble) * r / n;
    // As a + b x a channel.
    const auto b = scale * r * sums[1], a = scale * sums[0] - b * mean.to(at::kDouble);
    const auto type = statistics_type(x);
    const auto line =
        normalised_by(x, b.to(type), a.to(type), at::zeros_like(mean), at::ones_like(var), 0);
    return {dx - line, dw, db, {}, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor sync_batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           at::Tensor running_mean, at::Tensor running_var, double momentum,
                           double eps, const Ranks& ranks) {
  const auto or_constant = [&](const at::Tensor& t, double value) {
    return t.defined() ? t : at::full({x.size(1)}, value, x.options().dtype(statistics_type(x)));
  };
  return SyncNorm::apply(x, or_constant(weight, 1), or_constant(bias, 0), running_mean, running_var,
                         momentum, eps, &ranks);
}

}  // namespace ood
