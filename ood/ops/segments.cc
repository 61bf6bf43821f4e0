// Sums and distances by class: O(N D) work, deterministic in any number of threads.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/dispatch.h"
#include "ood/ops/distances.h"
#include "ood/ops/functorch.h"

namespace ood {
namespace {

namespace ag = torch::autograd;
using at::Tensor;

std::int64_t checked_label(const std::int64_t* y, std::int64_t i, std::int64_t classes,
                           const char* op) {
  TORCH_CHECK_INDEX(y[i] < classes, op, ": expected labels below the number of classes ", classes,
                    ", got ", y[i], " in row ", i);
  return y[i];
}

void check_labels(const Tensor& target, std::int64_t classes, const char* op) {
  const auto* y = target.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < target.numel(); ++i) checked_label(y, i, classes, op);
}

// The rows of each class in their order: rows[start[j]] .. rows[start[j + 1]].
struct ByClass {
  std::vector<std::int64_t> start, rows;

  ByClass(const Tensor& target, std::int64_t classes, const char* op)
      : start(static_cast<std::size_t>(classes) + 1, 0) {
    const auto n = target.numel();
    const auto* y = target.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < n; ++i)
      if (const auto label = checked_label(y, i, classes, op); label >= 0)
        ++start[static_cast<std::size_t>(label) + 1];
    for (std::size_t j = 1; j < start.size(); ++j) start[j] += start[j - 1];
    rows.resize(static_cast<std::size_t>(start.back()));
    auto next = start;
    for (std::int64_t i = 0; i < n; ++i)
      if (y[i] >= 0) rows[static_cast<std::size_t>(next[static_cast<std::size_t>(y[i])]++)] = i;
  }
};

void check_target(const Tensor& x, const Tensor& target, const char* op) {
  TORCH_CHECK_VALUE(x.dim() == 2 && target.dim() == 1 && target.sym_size(0) == x.sym_size(0), op,
                    ": expected rows [N, D] and target [N], got ", x.sym_sizes(), " and ",
                    target.sym_sizes());
  TORCH_CHECK_VALUE(target.device() == x.device(), op, ": expected target on ", x.device(),
                    ", where the rows are, got ", target.device());
}

// segment_sum: out[j] = sum of the rows with label j.

Tensor segment_sum_cpu(const Tensor& x_in, const Tensor& target_in, std::int64_t classes) {
  check_target(x_in, target_in, "segment_sum");
  const auto x = x_in.contiguous(), target = target_in.contiguous();
  const ByClass by(target, classes, "segment_sum");
  const auto d = x.size(1);
  auto out = at::zeros({classes, d}, x.options());
  ops::by_type(x, "segment_sum", [&](auto zero) {
    using F = decltype(zero);
    const F* from = x.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    at::parallel_for(0, classes, 1, [&](std::int64_t begin, std::int64_t end) {
      for (auto j = begin; j < end; ++j)
        for (auto r = by.start[static_cast<std::size_t>(j)];
             r < by.start[static_cast<std::size_t>(j) + 1]; ++r) {
          const F* row = from + by.rows[static_cast<std::size_t>(r)] * d;
          for (std::int64_t k = 0; k < d; ++k) to[j * d + k] += row[k];
        }
    });
  });
  return out;
}

Tensor segment_sum_meta(const Tensor& x, const Tensor& target, std::int64_t classes) {
  check_target(x, target, "segment_sum");
  return at::empty_symint({classes, x.sym_size(1)}, x.options());
}

// Row i of the result is row target[i] of `table`, 0 for labels below 0.
Tensor rows_of(const Tensor& table, const Tensor& target) {
  const auto known = target.ge(0);
  const auto rows = table.index_select(0, at::where(known, target, at::zeros_like(target)));
  return at::where(known.unsqueeze(1), rows, at::zeros_like(rows));
}

Tensor segment_sum_composite(const Tensor& x, const Tensor& target, std::int64_t classes) {
  check_target(x, target, "segment_sum");
  const auto known = target.ge(0);
  const auto rows = at::where(known.unsqueeze(1), x, at::zeros_like(x));
  return at::zeros({classes, x.size(1)}, x.options())
      .index_add(0, at::where(known, target, at::zeros_like(target)), rows);
}

Tensor segment_sum(const Tensor& x, const Tensor& target, std::int64_t classes) {
  static auto op =
      ops::find_op<Tensor(const Tensor&, const Tensor&, std::int64_t)>("ood::segment_sum");
  return op.call(x, target, classes);
}

struct SegmentSum : ag::Function<SegmentSum> {
  static Tensor forward(ag::AutogradContext* ctx, const Tensor& x, const Tensor& target,
                        std::int64_t classes) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({target});
    return segment_sum(x, target, classes);
  }
  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& grads) {
    // Ordinary operations: derivatives of any order follow.
    return {rows_of(grads[0], ctx->get_saved_variables()[0]), Tensor(), Tensor()};
  }
};

Tensor segment_sum_autograd(const Tensor& x_in, const Tensor& target_in, std::int64_t classes) {
  const auto x = ops::widened(x_in), target = ops::class_labels(target_in, "segment_sum");
  check_target(x, target, "segment_sum");
  if (!ops::fused(x)) return segment_sum_composite(x, target, classes);
  return SegmentSum::apply(x, target, classes);
}

// d[i] = ||x_i - c_y||^2 by ordinary operations: objectives that need it fast compute it with their
// gradient.
Tensor own_distances(const Tensor& x_in, const Tensor& c_in, const Tensor& target_in) {
  constexpr auto kOp = "own_center_distances";
  const auto x = ops::widened(x_in), c = ops::widened(c_in),
             target = ops::class_labels(target_in, kOp);
  check_target(x, target, kOp);
  TORCH_CHECK_VALUE(c.dim() == 2 && c.sym_size(0) > 0 && c.sym_size(1) == x.sym_size(1), kOp,
                    ": expected at least one center, [K, ", x.sym_size(1), "], got ",
                    c.sym_sizes());
  TORCH_CHECK_VALUE(c.device() == x.device(), kOp, ": expected centers on ", x.device(),
                    ", where the embedding is, got ", c.device());
  TORCH_CHECK_TYPE(c.scalar_type() == x.scalar_type(), kOp,
                   ": expected embedding and centers of one type, got ", x.scalar_type(), " and ",
                   c.scalar_type());
  if (ops::readable(target)) check_labels(target.contiguous(), c.size(0), kOp);
  const auto known = target.ge(0).unsqueeze(1);
  return (at::where(known, x, at::zeros_like(x)) - rows_of(c, target)).square().sum(1);
}

Tensor sum_below_autograd(const Tensor& x, const Tensor& target_in, std::int64_t classes) {
  const auto rows = ops::widened(x), target = ops::class_labels(target_in, "segment_sum");
  return rows.is_meta() ? segment_sum_meta(rows, target, classes)
                        : segment_sum_cpu(rows, target, classes);
}

Tensor sum_any_device(const Tensor& x, const Tensor& target, std::int64_t classes) {
  return segment_sum_composite(ops::widened(x), ops::class_labels(target, "segment_sum"), classes);
}

}  // namespace

Tensor own_center_distances(const Tensor& x, const Tensor& c, const Tensor& target) {
  static auto op = ops::find_op<Tensor(const Tensor&, const Tensor&, const Tensor&)>(
      "ood::own_center_distances");
  return op.call(x, c, target);
}

std::pair<Tensor, Tensor> class_means(const Tensor& x, const Tensor& target, std::int64_t classes) {
  const auto ones = at::zeros({target.size(0), 1}, x.options()) + 1.0;
  const auto counts = segment_sum(ones, target, classes).to(at::kLong).squeeze(1);
  const auto divisor = counts.clamp_min(1).to(x.scalar_type()).unsqueeze(1);
  return {segment_sum(x, target, classes) / divisor, counts};
}

void running_means_update_(const Tensor& means, const Tensor& counts, const Tensor& embedding,
                           const Tensor& target, double momentum) {
  const at::NoGradGuard no_grad;
  const auto [given, rows] =
      class_means(embedding.detach().to(means.scalar_type()), target, means.size(0));
  // A step whose numbers overflowed is one that a scaler of losses skips; a mean would keep it.
  const auto finite = given.sum(1).mul_(0).eq(0);
  const auto batch = at::where(finite.unsqueeze(1), given, means);
  const auto fresh = rows * finite;
  const auto unknown = counts.lt(0).logical_and(fresh.gt(0));
  const auto total = at::where(unknown, -counts * fresh, counts) + fresh;
  auto step = fresh.to(means.scalar_type()) / total.clamp_min(1).to(means.scalar_type());
  if (momentum > 0) step = at::where(counts.gt(0), at::full_like(step, momentum), step);
  step = at::where(fresh.gt(0), step, at::zeros_like(step));
  means.add_(step.unsqueeze(1) * (batch - means));
  counts.copy_(total);
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "running_means_update_(Tensor(a!) means, Tensor(b!) counts, Tensor embedding, "
      "Tensor target, float momentum=0) -> ()",
      running_means_update_);
  m.def("segment_sum(Tensor rows, Tensor target, int classes) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def("own_center_distances(Tensor embedding, Tensor centers, Tensor target) -> Tensor",
        own_distances, {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, CPU, m) { m.impl("segment_sum", sum_below_autograd); }
TORCH_LIBRARY_IMPL(ood, Meta, m) { m.impl("segment_sum", sum_below_autograd); }
TORCH_LIBRARY_IMPL(ood, Autograd, m) { m.impl("segment_sum", segment_sum_autograd); }
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) {
  m.impl("segment_sum", sum_any_device);
  m.impl("own_center_distances", own_distances);
}
TORCH_LIBRARY_IMPL(ood, CompositeExplicitAutograd, m) { m.impl("segment_sum", sum_any_device); }

}  // namespace ood
