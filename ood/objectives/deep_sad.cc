#include "ood/objectives/deep_sad.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ood/objectives/sphere.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(DeepSad);

using at::Tensor;
using namespace sphere;

std::vector<Tensor> DeepSad::start(const Sizes& sizes) const {
  return {at::zeros({sizes.dimension})};
}

std::vector<Term> DeepSad::composite(Tensors in) const {
  sphere::check(kCard.name, in);
  const auto d = sphere::distances(in[kEmbedding], in[kCenter]), shifted = d + eps;
  const auto& semi = in[kLabels];
  const auto labelled = at::where(semi.gt(0), eta * shifted, eta / shifted);
  return {{0, at::where(semi.eq(0), d, labelled), at::ones_like(semi, at::kBool)}};
}

Parts DeepSad::parts(Tensors in, bool sum, std::int64_t wanted) const {
  sphere::check(kCard.name, in);
  return ops::by_type(in[kEmbedding], "deep_sad", [&](auto zero) {
    using F = decltype(zero);
    const F h = static_cast<F>(eta), e = static_cast<F>(eps);
    return sphere::parts<F>(
        in, wanted, ops::mean_factor(sum, in[kLabels].numel()), [](std::int64_t) { return 0; },
        [&](std::int64_t y, F d) -> Row<F> {
          if (y == 0) return {d, 1};
          if (y > 0) return {h * (d + e), h};
          return {h / (d + e), -h / ((d + e) * (d + e))};
        });
  });
}

void DeepSad::update(Tensors, Tensors state, const Event& event) const {
  if (event.kind == Event::kBegin) sphere::begin(state[0], event);
}

Tensor DeepSad::distances(const Tensor& embedding, Tensors state) const {
  return sphere::distances(embedding, state[0]);
}

void DeepSad::readout(const NetworkOutput& output, Tensors state, Readout& r) const {
  r.logits = at::Tensor();
  r.score = distances(output.logits, state);
}

Tensor DeepSad::training_target(const Tensor& target) const {
  return at::where(target.lt(0), at::full_like(target, -1),
                   at::full_like(target, labelled_normal ? 1 : 0));
}

}  // namespace ood
