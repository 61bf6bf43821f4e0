#include "ood/objectives/center.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ood/objectives/register.h"
#include "ood/objectives/row_values.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distances.h"

namespace ood {
OOD_REGISTER_DESCRIPTION(Center);

at::Tensor center_loss(const at::Tensor& embedding, const at::Tensor& target,
                       const at::Tensor& centers, double radius, std::string_view reduction) {
  const auto distance = own_center_distances(embedding, centers, target);
  return reduce_rows((distance - radius * radius).relu(), target.ge(0), reduction);
}

namespace {

using Inputs = ops::DirectLoss::Inputs;
using Numbers = ops::DirectLoss::Numbers;
enum { kDistances, kTarget };  // of the inputs

at::Tensor composite(Inputs in, Numbers n) {
  const auto known = in[kTarget].ge(0);
  const auto own = in[kDistances].gather(1, in[kTarget].clamp_min(0).unsqueeze(1)).squeeze(1);
  return reduce_rows((own - n[0]).relu(), known, reduction_name(n[1]));
}

std::vector<at::Tensor> parts(Inputs in, Numbers numbers, std::int64_t wanted) {
  const auto distances = in[kDistances].contiguous(), target = in[kTarget].contiguous();
  return ops::with_type(distances, "center_loss_of_distances", [&](auto zero) {
    using F = decltype(zero);
    const auto n = distances.size(0), classes = distances.size(1);
    const auto* y = target.const_data_ptr<std::int64_t>();
    const F* d = distances.const_data_ptr<F>();
    std::int64_t known = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      TORCH_CHECK_INDEX(y[i] < classes, "center: expected labels below the number of classes ",
                        classes, ", got ", y[i], " in row ", i);
      known += y[i] >= 0;
    }
    const F square = static_cast<F>(numbers[0]);
    const double scale = ops::mean_factor(numbers[1] != 0, known);
    std::vector<at::Tensor> out(3);
    F* to = nullptr;
    if (ops::wants(wanted, kDistances)) {
      out[1] = at::zeros({n, classes}, distances.options());
      to = out[1].template mutable_data_ptr<F>();
    }
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      if (y[i] < 0 || d[i * classes + y[i]] <= square) continue;
      sum += d[i * classes + y[i]] - square;
      if (to != nullptr) to[i * classes + y[i]] = static_cast<F>(scale);
    }
    out[0] = ops::scalar<F>(scale * sum, distances);
    return out;
  });
}

constexpr ops::DirectLoss kOfDistances{"center_loss_of_distances", 2, 2, composite, parts};
[[maybe_unused]] const bool registered = ops::register_direct_loss(kOfDistances);

}  // namespace

at::Tensor center_loss_of_distances(const at::Tensor& distances, const at::Tensor& target,
                                    double radius, std::string_view reduction) {
  TORCH_CHECK_VALUE(
      distances.dim() == 2 && target.dim() == 1 && target.sym_size(0) == distances.sym_size(0),
      "center: expected distances [N, K] and target [N], got ", distances.sym_sizes(), " and ",
      target.sym_sizes());
  return ops::direct_loss(kOfDistances,
                          {ops::widened(distances), ops::class_labels(target, Center::kName)},
                          {radius * radius, reduction_is_sum(reduction)});
}

void center_update_(at::Tensor& centers, const at::Tensor& embedding, const at::Tensor& target,
                    double alpha) {
  const at::NoGradGuard no_grad;
  const auto [means, counts] = class_means(embedding, target, centers.size(0));
  const auto n = counts.to(centers.scalar_type()).unsqueeze(1);
  // sum (x_i - c) = n (mean - c)
  centers.add_(alpha * n * (means - centers) / (1.0 + n));
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "center_loss(Tensor embedding, Tensor target, Tensor centers, float radius=0, "
      "str reduction='mean') -> Tensor",
      center_loss, {at::Tag::pt2_compliant_tag});
  m.def(
      "center_loss_of_distances(Tensor distances, Tensor target, float radius=0, "
      "str reduction='mean') -> Tensor",
      center_loss_of_distances, {at::Tag::pt2_compliant_tag});
  m.def("center_update_(Tensor(a!) centers, Tensor embedding, Tensor target, float alpha) -> ()",
        [](const at::Tensor& centers, const at::Tensor& embedding, const at::Tensor& target,
           double alpha) {
          at::Tensor c = centers;
          center_update_(c, embedding, target, alpha);
        });
}

}  // namespace ood
