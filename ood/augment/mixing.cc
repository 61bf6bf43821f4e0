#include "ood/augment/mixing.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

namespace ood {

struct RandomStream::Engine {
  at::Philox4_32 philox;
};

RandomStream::RandomStream(std::uint64_t seed, std::uint64_t stream)
    : engine_(new Engine{at::Philox4_32(seed, stream)}) {}
RandomStream::~RandomStream() = default;
RandomStream::RandomStream(RandomStream&&) noexcept = default;

double RandomStream::uniform() {
  const std::uint64_t high = engine_->philox(), low = engine_->philox();
  return (static_cast<double>((high << 20) ^ (low >> 12)) + 0.5) / 4503599627370496.0;  // 2^52
}

double RandomStream::normal() {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(6.283185307179586 * uniform());
}

std::int64_t RandomStream::below(std::int64_t n) {
  return std::min(n - 1, static_cast<std::int64_t>(uniform() * static_cast<double>(n)));
}

// Marsaglia and Tsang 2000 for a >= 1; below, G(a) = G(a + 1) U^(1/a).
double RandomStream::log_gamma_variate(double a) {
  if (a < 1) {
    const double more = log_gamma_variate(a + 1);
    return more + std::log(uniform()) / a;
  }
  const double d = a - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(), v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(uniform()) < 0.5 * x * x + d - d * v + d * std::log(v))
      return std::log(d) + std::log(v);
  }
}

double RandomStream::beta(double a) {
  const double p = log_gamma_variate(a), q = log_gamma_variate(a);
  return 1 / (1 + std::exp(q - p));
}

at::Tensor RandomStream::permutation(std::int64_t n) {
  auto order = at::empty({n}, at::kLong);
  auto* p = order.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) p[i] = i;
  for (std::int64_t i = n; i > 1; --i) std::swap(p[i - 1], p[below(i)]);
  return order;
}

namespace {

void check_alpha(const char* who, double alpha) {
  TORCH_CHECK_VALUE(std::isfinite(alpha), who, ": expected a finite alpha, got ", alpha);
}

}  // namespace

Mixed mixup_with(const at::Tensor& inputs, const at::Tensor& target, double lambda,
                 const at::Tensor& order) {
  TORCH_CHECK_VALUE(inputs.dim() >= 1 && target.dim() >= 1 && inputs.size(0) == target.size(0),
                    "mixup: expected as many targets as inputs, got ", inputs.sizes(), " and ",
                    target.sizes());
  TORCH_CHECK_VALUE(lambda >= 0 && lambda <= 1, "mixup: expected lambda from 0 to 1, got ", lambda);
  TORCH_CHECK_TYPE(inputs.is_floating_point(), "mixup: expected inputs of a floating type, got ",
                   inputs.scalar_type());
  const auto index = order.to(inputs.device());
  return {lambda * inputs + (1 - lambda) * inputs.index_select(0, index), target,
          target.index_select(0, index), lambda};
}

Mixed mixup_data(const at::Tensor& inputs, const at::Tensor& target, double alpha,
                 RandomStream& random) {
  check_alpha("mixup", alpha);
  const double lambda = alpha > 0 ? random.beta(alpha) : 1;
  return mixup_with(inputs, target, lambda, random.permutation(inputs.size(0)));
}

CutBox cut_box(std::int64_t height, std::int64_t width, double lambda, std::int64_t x,
               std::int64_t y) {
  const double ratio = std::sqrt(1 - lambda);
  const auto cut_h = static_cast<std::int64_t>(static_cast<double>(height) * ratio);
  const auto cut_w = static_cast<std::int64_t>(static_cast<double>(width) * ratio);
  const auto clip = [](std::int64_t v, std::int64_t high) {
    return std::clamp<std::int64_t>(v, 0, high);
  };
  CutBox b{clip(x - cut_w / 2, width), clip(y - cut_h / 2, height), clip(x + cut_w / 2, width),
           clip(y + cut_h / 2, height), 1};
  b.lambda =
      1 - static_cast<double>((b.x2 - b.x1) * (b.y2 - b.y1)) / static_cast<double>(height * width);
  return b;
}

Mixed cutmix(const at::Tensor& inputs, const at::Tensor& target, double alpha, double probability,
             RandomStream& random) {
  TORCH_CHECK_VALUE(inputs.dim() == 4 && inputs.size(0) == target.size(0),
                    "cutmix: expected inputs [N, C, H, W] and as many targets, got ",
                    inputs.sizes(), " and ", target.sizes());
  check_alpha("cutmix", alpha);
  // Drawn in any case, so that a batch that stays does not shift the stream.
  const bool apply = random.uniform() < probability;
  const double lambda = alpha > 0 ? random.beta(alpha) : 1;
  const auto order = random.permutation(inputs.size(0)).to(inputs.device());
  const auto y = random.below(inputs.size(2)), x = random.below(inputs.size(3));
  const auto box = cut_box(inputs.size(2), inputs.size(3), lambda, x, y);
  if (!apply) return {inputs, target, target, 1};
  auto mixed = inputs.clone();
  const auto part = [&](const at::Tensor& t) {
    return t.slice(2, box.y1, box.y2).slice(3, box.x1, box.x2);
  };
  part(mixed).copy_(part(inputs).index_select(0, order));
  return {mixed, target, target.index_select(0, order), box.lambda};
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const auto unpack = [](const Mixed& mixed) {
    return std::make_tuple(mixed.inputs, mixed.target_b, mixed.lambda);
  };
  m.def(
      "mixup_data(Tensor inputs, Tensor target, float alpha, int seed) -> (Tensor, Tensor, float)",
      [unpack](const at::Tensor& x, const at::Tensor& y, double alpha, std::int64_t seed) {
        RandomStream random(static_cast<std::uint64_t>(seed));
        return unpack(mixup_data(x, y, alpha, random));
      });
  m.def(
      "cutmix(Tensor inputs, Tensor target, float alpha, float probability, int seed) -> (Tensor, "
      "Tensor, float)",
      [unpack](const at::Tensor& x, const at::Tensor& y, double alpha, double probability,
               std::int64_t seed) {
        RandomStream random(static_cast<std::uint64_t>(seed));
        return unpack(cutmix(x, y, alpha, probability, random));
      });
}

}  // namespace ood
