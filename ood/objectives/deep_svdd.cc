#include "ood/objectives/deep_svdd.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ood/objectives/sphere.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(DeepSvdd);

using at::Tensor;
using namespace sphere;

namespace {

Tensor square_radius(Tensors in) { return in[kRadius].detach().reshape({}).square(); }

// Of the rows that are known, by a mask: how many they are, only the device knows. NaN: none.
Tensor radius_of(const Tensor& distances, const Tensor& known, double nu) {
  const auto d = distances.detach().sqrt();
  const auto none = at::full({}, std::numeric_limits<double>::quiet_NaN(), d.options());
  return at::nanquantile(at::where(known, d, none), 1 - nu);
}

std::int64_t if_known(std::int64_t label) { return label >= 0 ? 0 : -1; }

double share(Tensors in, bool sum) {
  return ops::mean_factor(sum, in[kLabels].ge(0).sum().item<std::int64_t>());
}

}  // namespace

std::vector<Tensor> DeepSvdd::start(const Sizes& sizes) const {
  return {at::zeros({sizes.dimension}), at::zeros({})};
}

std::vector<Term> DeepSvdd::composite(Tensors in) const {
  sphere::check(kCard.name, in);
  ops::check_one_number(in[kRadius], kCard.name, "radius");
  const auto d = sphere::distances(in[kEmbedding], in[kCenter]);
  const auto r = square_radius(in);
  return {{0, nu == 0 ? d : r + (d - r).relu() / nu, in[kLabels].ge(0)}};
}

Parts DeepSvdd::parts(Tensors in, bool sum, std::int64_t wanted) const {
  sphere::check(kCard.name, in);
  ops::check_one_number(in[kRadius], kCard.name, "radius");
  return ops::by_type(in[kEmbedding], "deep_svdd", [&](auto zero) {
    using F = decltype(zero);
    const F r = square_radius(in).template item<F>(), steep = static_cast<F>(nu > 0 ? 1 / nu : 0);
    return sphere::parts<F>(in, wanted, share(in, sum), if_known, [&](std::int64_t, F d) -> Row<F> {
      if (nu == 0) return {d, 1};
      return d <= r ? Row<F>{r, 0} : Row<F>{r + (d - r) * steep, steep};
    });
  });
}

void DeepSvdd::update(Tensors in, Tensors state, const Event& event) const {
  if (event.kind == Event::kBegin) sphere::begin(state[0], event);
  if (event.kind != Event::kStep || nu == 0 || event.epoch < warmup_epochs) return;
  const auto known = in[kLabels].ge(0);
  if (known.size(0) == 0) return;
  const auto radius = radius_of(distances(in[kEmbedding], state), known, nu);
  state[1].copy_(at::where(known.any(), radius, state[1]));
}

Tensor DeepSvdd::distances(const Tensor& embedding, Tensors state) const {
  return sphere::distances(embedding, state[0]);
}

void DeepSvdd::readout(const NetworkOutput& output, Tensors state, Readout& r) const {
  r.logits = at::Tensor();
  r.score = distances(output.logits, state);
}

namespace {

// max(0, d - R^2) over ID rows: the peer's form.
std::vector<Term> hinge_composite(Numbers, Tensors in) {
  sphere::check("deep_svdd", in);
  ops::check_one_number(in[kRadius], "deep_svdd", "radius");
  const auto d = sphere::distances(in[kEmbedding], in[kCenter]);
  return {{0, (d - square_radius(in)).relu(), in[kLabels].ge(0)}};
}

Parts hinge_parts(Numbers, Tensors in, bool sum, std::int64_t wanted) {
  sphere::check("deep_svdd", in);
  ops::check_one_number(in[kRadius], "deep_svdd", "radius");
  return ops::by_type(in[kEmbedding], "svdd_hinge_loss", [&](auto zero) {
    using F = decltype(zero);
    const F r = square_radius(in).template item<F>();
    return sphere::parts<F>(in, wanted, share(in, sum), if_known, [&](std::int64_t, F d) -> Row<F> {
      return d <= r ? Row<F>{} : Row<F>{d - r, 1};
    });
  });
}

constexpr ops::DirectLoss kHinge{"svdd_hinge_loss", 4, 1, 0, 1, hinge_composite, hinge_parts};
[[maybe_unused]] const bool registered = ops::register_direct_loss(kHinge);

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  const std::vector<at::Tag> tag{at::Tag::pt2_compliant_tag};
  m.def(
      "svdd_radius(Tensor distances, float nu) -> Tensor",
      [](const Tensor& distances, double nu) {
        return at::quantile(distances.detach().sqrt(), 1 - nu);
      },
      tag);
  m.def(
      "svdd_hinge_loss(Tensor embedding, Tensor center, Tensor target, Tensor radius, "
      "str reduction='mean') -> Tensor",
      [](const Tensor& x, const Tensor& center, const Tensor& target, const Tensor& radius,
         std::string_view reduction) {
        // Of a copy of the radius: it may be updated before the backward pass.
        const std::vector in{x, target, center, radius.detach().clone()};
        return ops::direct_loss(kHinge, in, {}, parse_reduction(reduction, "deep_svdd")).loss;
      },
      tag);
}

}  // namespace ood
