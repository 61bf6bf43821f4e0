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

namespace {

Term term_of(const Tensor& d, const Tensor& semi_target, double eta, double eps) {
  TORCH_CHECK_VALUE(semi_target.sym_sizes() == d.sym_sizes(),
                    "deep_sad: expected semi-targets of the distances' shape ", d.sym_sizes(),
                    ", got ", semi_target.sym_sizes());
  const auto shifted = d + eps;
  const auto labelled = at::where(semi_target.gt(0), eta * shifted, eta / shifted);
  return {0, at::where(semi_target.eq(0), d, labelled), at::ones_like(semi_target, at::kBool)};
}

}  // namespace

std::vector<Tensor> DeepSad::start(const Sizes& sizes) const {
  return {at::zeros({sizes.dimension})};
}

std::vector<Term> DeepSad::composite(Tensors in) const {
  sphere::check(kCard.name, in);
  return {term_of(sphere::distances(in[kEmbedding], in[kCenter]), in[kLabels], eta, eps)};
}

Parts DeepSad::parts(Tensors in, bool sum, std::int64_t wanted) const {
  sphere::check(kCard.name, in);
  return ops::by_type(in[kEmbedding], "deep_sad", [&](auto zero) {
    using F = decltype(zero);
    const F h = static_cast<F>(eta), e = static_cast<F>(eps);
    return sphere::parts<F>(in, wanted, ops::mean_factor(sum, in[kLabels].numel()),
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

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::vector<at::Tag> tag{at::Tag::pt2_compliant_tag};
  m.def(
      "sad_loss(Tensor distances, Tensor semi_target, float eta=1, float eps=1e-6, "
      "str reduction='mean') -> Tensor",
      [](const Tensor& d, const Tensor& semi_target, double eta, double eps,
         std::string_view reduction) {
        return ops::add_up_terms({term_of(d, semi_target, eta, eps)}, 1,
                                 parse_reduction(reduction, "deep_sad"))
            .loss;
      },
      tag);
  m.def(
      "sad_embedding_loss(Tensor embedding, Tensor center, Tensor semi_target, float eta=1, "
      "float eps=1e-6, str reduction='mean') -> Tensor",
      [](const Tensor& x, const Tensor& center, const Tensor& semi_target, double eta, double eps,
         std::string_view reduction) {
        return ops::direct_loss("deep_sad", std::vector{x, semi_target, center}, {eta, eps, 0},
                                parse_reduction(reduction, "deep_sad"))
            .loss;
      },
      tag);
}

}  // namespace ood
