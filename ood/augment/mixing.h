#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace ood {

/// One stream of random numbers (Philox): everything a mixing draws comes from it.
class RandomStream {
 public:
  explicit RandomStream(std::uint64_t seed, std::uint64_t stream = 0);
  ~RandomStream();
  RandomStream(RandomStream&&) noexcept;

  double uniform();  ///< in (0, 1)
  double normal();
  std::int64_t below(std::int64_t n);  ///< 0 .. n-1
  /// Beta(a, a) by two gamma variables in log space: exact also where both would underflow.
  double beta(double a);
  /// A random order of 0 .. n-1, int64.
  at::Tensor permutation(std::int64_t n);

 private:
  double log_gamma_variate(double a);
  struct Engine;
  std::unique_ptr<Engine> engine_;
};

/// A batch of which each sample is mixed with another one. Train on
/// lambda L(y_a) + (1 - lambda) L(y_b).
struct Mixed {
  at::Tensor inputs;
  at::Tensor target_a, target_b;
  double lambda;
};

/// mixup (Zhang et al. 2018): lambda x + (1 - lambda) x[order], one lambda ~ Beta(alpha, alpha) for
/// the batch; alpha <= 0 gives lambda = 1. inputs [N] to [N, C, H, W] of a floating type, target
/// [N].
Mixed mixup_data(const at::Tensor& inputs, const at::Tensor& target, double alpha,
                 RandomStream& random);
/// The same with lambda and order given.
Mixed mixup_with(const at::Tensor& inputs, const at::Tensor& target, double lambda,
                 const at::Tensor& order);

/// lambda L(y_a) + (1 - lambda) L(y_b); criterion(prediction, target) -> loss, also one per row.
template <class Criterion>
at::Tensor mixup_criterion(Criterion&& criterion, const at::Tensor& prediction,
                           const Mixed& mixed) {
  return mixed.lambda * criterion(prediction, mixed.target_a) +
         (1 - mixed.lambda) * criterion(prediction, mixed.target_b);
}

/// CutMix (Yun et al. 2019): a rectangle of each picture comes from another one; lambda is the
/// share of the picture that stays, exact after clipping at the border. With probability 1 -
/// `probability` the batch stays as it is. inputs [N, C, H, W], not changed; target [N].
Mixed cutmix(const at::Tensor& inputs, const at::Tensor& target, double alpha, double probability,
             RandomStream& random);

/// The rectangle around (center_x, center_y) for a lambda, clipped, and the lambda it really
/// leaves.
struct CutBox {
  std::int64_t x1, y1, x2, y2;
  double lambda;
};
CutBox cut_box(std::int64_t height, std::int64_t width, double lambda, std::int64_t center_x,
               std::int64_t center_y);

}  // namespace ood
