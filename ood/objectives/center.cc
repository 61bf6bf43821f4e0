#include "ood/objectives/center.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ood/objectives/sphere.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distances.h"
#include "ood/ops/row_values.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(Center);

namespace {

enum { kEmbedding, kLabels, kCenters };  // of the inputs

void check(Tensors in) {
  const auto &x = in[kEmbedding], &target = in[kLabels], &centers = in[kCenters];
  TORCH_CHECK_VALUE(x.dim() == 2 && target.dim() == 1 && target.sym_size(0) == x.sym_size(0) &&
                        centers.dim() == 2 && centers.sym_size(1) == x.sym_size(1),
                    "center: expected embedding [N, D], target [N] and centers [K, D], got ",
                    x.sym_sizes(), ", ", target.sym_sizes(), " and ", centers.sym_sizes());
}

// How many labels are of a class; all must be below `classes`.
std::int64_t count_known(const at::Tensor& target, std::int64_t classes) {
  const auto* y = target.const_data_ptr<std::int64_t>();
  std::int64_t known = 0;
  for (std::int64_t i = 0; i < target.numel(); ++i) {
    TORCH_CHECK_INDEX(y[i] < classes, "center: expected labels below the number of classes ",
                      classes, ", got ", y[i], " in row ", i);
    known += y[i] >= 0;
  }
  return known;
}

Term term_of(const at::Tensor& distances, const at::Tensor& target, double square_radius) {
  return {0, (distances - square_radius).relu(), target.ge(0)};
}

}  // namespace

std::vector<at::Tensor> Center::start(const Sizes& sizes) const {
  return {at::randn({sizes.classes, sizes.dimension}) * magnitude};
}

std::vector<Term> Center::composite(Tensors in) const {
  check(in);
  return {term_of(own_center_distances(in[kEmbedding], in[kCenters], in[kLabels]), in[kLabels],
                  radius * radius)};
}

// d - radius^2 where that is above 0.
Parts Center::parts(Tensors in, bool sum, std::int64_t wanted) const {
  check(in);
  const auto target = in[kLabels].contiguous();
  const double scale = ops::mean_factor(sum, count_known(target, in[kCenters].size(0)));
  return ops::by_type(in[kEmbedding], "center", [&](auto zero) {
    using F = decltype(zero);
    const F square = static_cast<F>(radius * radius);
    return sphere::parts<F>(
        in, wanted, scale, [](std::int64_t y) { return y; },
        [&](std::int64_t, F d) -> sphere::Row<F> {
          return d <= square ? sphere::Row<F>{} : sphere::Row<F>{d - square, 1};
        });
  });
}

// The same of distances [N, K] that are squared: the peer's form.
namespace {
namespace of_distances {

enum { kDistances };  // the labels follow

void check(Tensors in) {
  TORCH_CHECK_VALUE(in[kDistances].dim() == 2 && in[kLabels].dim() == 1 &&
                        in[kLabels].sym_size(0) == in[kDistances].sym_size(0),
                    "center: expected distances [N, K] and target [N], got ",
                    in[kDistances].sym_sizes(), " and ", in[kLabels].sym_sizes());
}

std::vector<Term> composite(Numbers n, Tensors in) {
  check(in);
  const auto own = in[kDistances].gather(1, in[kLabels].clamp_min(0).unsqueeze(1)).squeeze(1);
  return {term_of(own, in[kLabels], n[0])};
}

Parts parts(Numbers numbers, Tensors in, bool sum_only, std::int64_t wanted) {
  check(in);
  const auto distances = in[kDistances].contiguous(), target = in[kLabels].contiguous();
  return ops::by_type(distances, "center_loss_of_distances", [&](auto zero) {
    using F = decltype(zero);
    const auto n = distances.size(0), classes = distances.size(1);
    const auto* y = target.const_data_ptr<std::int64_t>();
    const F* d = distances.const_data_ptr<F>();
    const F square = static_cast<F>(numbers[0]);
    const double scale = ops::mean_factor(sum_only, count_known(target, classes));
    Parts out{{}, std::vector<at::Tensor>(2)};
    F* to = nullptr;
    if (ops::wants(wanted, kDistances)) {
      out.gradients[0] = at::zeros({n, classes}, distances.options());
      to = out.gradients[0].template mutable_data_ptr<F>();
    }
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      if (y[i] < 0 || d[i * classes + y[i]] <= square) continue;
      sum += d[i * classes + y[i]] - square;
      if (to != nullptr) to[i * classes + y[i]] = static_cast<F>(scale);
    }
    out.terms = {scale * sum};
    return out;
  });
}

constexpr ops::DirectLoss kLoss{"center_loss_of_distances", 2, 1, 1, 1, composite, parts};
[[maybe_unused]] const bool registered = ops::register_direct_loss(kLoss);

}  // namespace of_distances
}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "center_loss_of_distances(Tensor distances, Tensor target, float radius=0, "
      "str reduction='mean') -> Tensor",
      [](const at::Tensor& distances, const at::Tensor& target, double radius,
         std::string_view reduction) {
        return ops::direct_loss(of_distances::kLoss, std::vector{distances, target},
                                {radius * radius}, parse_reduction(reduction, "center"))
            .loss;
      },
      {at::Tag::pt2_compliant_tag});
  // The paper's own update: c_j += alpha sum_{i in j} (x_i - c_j) / (1 + n_j).
  m.def("center_update_(Tensor(a!) centers, Tensor embedding, Tensor target, float alpha) -> ()",
        [](const at::Tensor& centers, const at::Tensor& embedding, const at::Tensor& target,
           double alpha) {
          const at::NoGradGuard no_grad;
          const auto [means, counts] = class_means(embedding, target, centers.size(0));
          const auto n = counts.to(centers.scalar_type()).unsqueeze(1);
          centers.add_(alpha * n * (means - centers) / (1.0 + n));
        });
}

}  // namespace ood
