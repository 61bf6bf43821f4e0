#include "ood/objectives/center.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <numeric>

#include "ood/kernels/distance.h"
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

namespace {

// With d = ||x_i - c_y||^2 above the square of the radius, else nothing:
//
//   dx_i = 2 scale (x_i - c_y)     dc_j = -sum of dx_i over the rows of class j
template <class F>
Parts parts_of(double square_radius, Tensors in, bool sum, std::int64_t wanted) {
  const auto x = in[kEmbedding].contiguous(), target = in[kLabels].contiguous(),
             centers = in[kCenters].contiguous();
  const auto n = x.size(0), width = x.size(1);
  const double scale = ops::mean_factor(sum, count_known(target, centers.size(0)));
  const bool want_x = ops::wants(wanted, kEmbedding), want_c = ops::wants(wanted, kCenters);
  Parts out{{}, std::vector<at::Tensor>(in.size())};
  const auto to_x = want_x || want_c ? at::empty({n, width}, x.options()) : at::Tensor();
  if (want_x) out.gradients[kEmbedding] = to_x;
  const F *px = x.const_data_ptr<F>(), *pc = centers.const_data_ptr<F>();
  const auto* y = target.const_data_ptr<std::int64_t>();
  F* g = to_x.defined() ? to_x.mutable_data_ptr<F>() : nullptr;
  std::vector<double> values(static_cast<std::size_t>(n), 0.0);
  const auto grain = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(width, 1));
  at::parallel_for(0, n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      F d = 0;
      const F* own = y[i] >= 0 ? pc + y[i] * width : nullptr;
      if (own != nullptr) kernels::square_distances(px + i * width, 1, own, 1, width, &d, 1);
      const bool takes_part = own != nullptr && !(d <= static_cast<F>(square_radius));
      if (takes_part) values[static_cast<std::size_t>(i)] = d - square_radius;
      if (g == nullptr) continue;
      const F weight = static_cast<F>(2 * scale);
      if (takes_part)
        kernels::weighted_difference(px + i * width, own, width, weight, g + i * width);
      else
        std::fill(g + i * width, g + (i + 1) * width, F{0});
    }
  });
  out.terms = {scale * std::accumulate(values.begin(), values.end(), 0.0)};
  if (!want_c) return out;
  out.gradients[kCenters] = at::zeros(centers.sizes(), centers.options());
  F* to = out.gradients[kCenters].mutable_data_ptr<F>();
  for (std::int64_t i = 0; i < n; ++i)
    if (y[i] >= 0)
      for (std::int64_t k = 0; k < width; ++k) to[y[i] * width + k] -= g[i * width + k];
  return out;
}

}  // namespace

Parts Center::parts(Tensors in, bool sum, std::int64_t wanted) const {
  check(in);
  return ops::by_type(in[kEmbedding], "center", [&](auto zero) {
    return parts_of<decltype(zero)>(radius * radius, in, sum, wanted);
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
      "center_loss(Tensor embedding, Tensor target, Tensor centers, float radius=0, "
      "str reduction='mean') -> Tensor",
      [](const at::Tensor& x, const at::Tensor& target, const at::Tensor& centers, double radius,
         std::string_view reduction) {
        return ops::direct_loss("center", std::vector{x, target, centers}, {1, radius, 0, 0},
                                parse_reduction(reduction, "center"))
            .loss;
      },
      {at::Tag::pt2_compliant_tag});
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
