#include "ood/ops/distances.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/library.h>

#include "ood/formula/tensor_row.h"
#include "ood/ops/by_type.h"
#include "ood/ops/dispatch.h"
#include "ood/ops/distance_gradients.h"
#include "ood/ops/distance_products.h"
#include "ood/ops/functorch.h"
#include "ood/ops/saved_node.h"

namespace ood {
namespace {

namespace ag = torch::autograd;
using at::Tensor;

void check(const Tensor& embedding, const Tensor& centers) {
  TORCH_CHECK_VALUE(
      embedding.dim() == 2 && centers.dim() == 2 && embedding.sym_size(1) == centers.sym_size(1),
      "center_distances: expected embedding [N, D] and centers [K, D], got ", embedding.sym_sizes(),
      " and ", centers.sym_sizes());
  TORCH_CHECK_VALUE(embedding.device() == centers.device(),
                    "center_distances: expected centers on ", embedding.device(),
                    ", where the embedding is, got ", centers.device());
  TORCH_CHECK_TYPE(
      embedding.scalar_type() == centers.scalar_type() && embedding.is_floating_point(),
      "center_distances: expected embedding and centers of one floating type, got ",
      embedding.scalar_type(), " and ", centers.scalar_type());
}

// Ordinary operations, for higher derivatives: a product of centred operands.
Tensor composite(const Tensor& x, const Tensor& centers, bool squared) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto shift = centers.detach().mean(0, true);
  const auto a = x - shift, b = centers - shift;
  const auto square = a.square().sum(-1, true) + b.square().sum(-1).unsqueeze(-2) -
                      2.0 * a.matmul(b.transpose(-1, -2));
  const auto inside = where(square.gt(0), square, 0.0);
  return squared ? inside : root(inside);
}

Tensor forward_cpu(const Tensor& x, const Tensor& c, bool squared) {
  check(x, c);
  auto square = ops::square_distances(x.detach().contiguous(), c.detach().contiguous());
  return squared ? square : square.sqrt_();
}

Tensor forward_meta(const Tensor& x, const Tensor& c, bool) {
  check(x, c);
  return at::empty_symint({x.sym_size(0), c.sym_size(0)}, x.options());
}

// Upstream gradients of distances as those of half their squares. A weight of 0 takes no part, also
// where the distance is NaN.
Tensor of_half_squares(const Tensor& upstream, const Tensor& distances) {
  auto out = at::empty_like(upstream);
  ops::by_type(upstream, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const F *u = upstream.const_data_ptr<F>(), *d = distances.const_data_ptr<F>();
    F* to = out.template mutable_data_ptr<F>();
    at::parallel_for(0, upstream.numel(), 32768, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) to[i] = u[i] == 0 || d[i] == 0 ? F{0} : u[i] / d[i];
    });
  });
  return out;
}

// With w_ij = dL/d(d_ij^2): dx_i = 2 sum_j w_ij (x_i - c_j),  dc_j = 2 sum_i w_ij (c_j - x_i).
std::tuple<Tensor, Tensor> backward_cpu(const Tensor& upstream, const Tensor& x_in,
                                        const Tensor& c_in, const Tensor& distances, bool squared,
                                        bool want_x, bool want_c) {
  check(x_in, c_in);
  for (const Tensor* t : {&upstream, &distances})
    TORCH_CHECK_VALUE(t->sizes() == c10::IntArrayRef({x_in.size(0), c_in.size(0)}) &&
                          t->scalar_type() == x_in.scalar_type(),
                      "center_distances: expected distances and their gradient [", x_in.size(0),
                      ", ", c_in.size(0), "] of ", x_in.scalar_type(), ", got ", t->sizes(), " of ",
                      t->scalar_type());
  const auto x = x_in.detach().contiguous(), c = c_in.detach().contiguous();
  const auto up = upstream.detach().contiguous();
  const auto [to_x, to_c] =
      squared ? ops::distance_gradients(x, c, up, 2, want_x, want_c)
              : ops::distance_gradients(x, c, of_half_squares(up, distances.contiguous()), 1,
                                        want_x, want_c);
  const auto none = at::empty({0}, x.options());
  return {to_x.defined() ? to_x : none, to_c.defined() ? to_c : none};
}

// The same by ordinary operations, with derivatives of any order: by direct differences where they
// fit, since the parts of a product are much larger than the difference of near rows.
std::tuple<Tensor, Tensor> backward_composite(const Tensor& upstream, const Tensor& x_in,
                                              const Tensor& c, bool squared) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  constexpr std::int64_t kFits = std::int64_t{1} << 24;
  // A row that takes no part may hold NaN.
  const auto takes_part = upstream.ne(0).any(1, true).logical_or(x_in.isfinite().all(1, true));
  const auto x = at::where(takes_part, x_in, at::zeros_like(x_in));
  auto weight = 2.0 * upstream;
  if (!squared) {
    const auto d = center_distances(x, c, false);
    const auto none = d.eq(0);
    weight = at::where(none, at::zeros_like(d), upstream / at::where(none, at::ones_like(d), d));
  }
  if (x.numel() * c.size(0) <= kFits) {
    const auto pull = weight.unsqueeze(2) * (x.unsqueeze(1) - c);
    return {pull.sum(1), -pull.sum(0)};
  }
  const auto shift = c.detach().mean(0, true);
  const auto a = x - shift, b = c - shift;
  return {weight.sum(1).unsqueeze(1) * a - weight.matmul(b),
          weight.sum(0).unsqueeze(1) * b - weight.t().matmul(a)};
}

std::tuple<Tensor, Tensor> backward_meta(const Tensor&, const Tensor& x, const Tensor& c,
                                         const Tensor&, bool, bool want_x, bool want_c) {
  const auto like = [](bool want, const Tensor& t) {
    return want ? at::empty_symint(t.sym_sizes(), t.options()) : at::empty({0}, t.options());
  };
  return {like(want_x, x), like(want_c, c)};
}

auto& forward_op() {
  static auto op =
      ops::find_op<Tensor(const Tensor&, const Tensor&, bool)>("ood::_center_distances_forward");
  return op;
}
auto& backward_op() {
  static auto op = ops::find_op<std::tuple<Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, const Tensor&, bool, bool, bool)>(
      "ood::_center_distances_backward");
  return op;
}

struct CenterDistancesBackward final : ops::SavedNode {
  bool squared = false;

  using SavedNode::SavedNode;
  std::string name() const override { return "ood::CenterDistancesBackward"; }

  ag::variable_list apply(ag::variable_list&& grads) override {
    if (!grads[0].defined()) return ag::variable_list(2);
    const auto kept = saved();
    const Tensor& distances = squared ? grads[0] : kept[2];  // the gradient of squares needs none
    const bool want_x = task_should_compute_output(0), want_c = task_should_compute_output(1);
    const auto [to_x, to_c] =
        at::GradMode::is_enabled()
            ? backward_composite(grads[0], kept[0], kept[1], squared)
            : backward_op().call(grads[0], kept[0], kept[1], distances, squared, want_x, want_c);
    return {want_x ? to_x : Tensor(), want_c ? to_c : Tensor()};
  }
};

Tensor below_autograd(const Tensor& x, const Tensor& c, bool squared) {
  return forward_op().call(ops::widened(x), ops::widened(c), squared);
}

Tensor with_gradient(const Tensor& x_in, const Tensor& c_in, bool squared) {
  const auto x = ops::widened(x_in), c = ops::widened(c_in);
  check(x, c);
  if (!ops::fused(x) || !ops::fused(c)) return composite(x, c, squared);
  const auto out = [&] {
    at::AutoDispatchBelowADInplaceOrView guard;
    return forward_op().call(x, c, squared);
  }();
  if (at::GradMode::is_enabled() && (x.requires_grad() || c.requires_grad())) {
    const auto node = c10::make_intrusive<CenterDistancesBackward>(ag::collect_next_edges(x, c));
    node->squared = squared;
    node->save({x, c});
    ag::set_history(out, node);
    if (!squared) node->save_output(out);
  }
  return out;
}

Tensor any_device(const Tensor& x_in, const Tensor& c_in, bool squared) {
  const auto x = ops::widened(x_in), c = ops::widened(c_in);
  check(x, c);
  return composite(x, c, squared);
}

}  // namespace

Tensor center_distances(const Tensor& embedding, const Tensor& centers, bool squared) {
  static auto op =
      ops::find_op<Tensor(const Tensor&, const Tensor&, bool)>("ood::center_distances");
  const auto x = ops::widened(embedding);
  return op.call(x, centers.to(x.scalar_type()), squared);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("center_distances(Tensor embedding, Tensor centers, bool squared=False) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def("_center_distances_forward(Tensor embedding, Tensor centers, bool squared) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def(
      "_center_distances_backward(Tensor upstream, Tensor embedding, Tensor centers, "
      "Tensor distances, bool squared, bool want_x=True, bool want_c=True) -> (Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, CPU, m) {
  m.impl("center_distances", below_autograd);
  m.impl("_center_distances_forward", forward_cpu);
  m.impl("_center_distances_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(ood, Meta, m) {
  m.impl("center_distances", below_autograd);
  m.impl("_center_distances_forward", forward_meta);
  m.impl("_center_distances_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(ood, Autograd, m) { m.impl("center_distances", with_gradient); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("center_distances", any_device); }
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("center_distances", any_device); }

}  // namespace ood
