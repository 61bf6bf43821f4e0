#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <numeric>

#include "ood/kernels/distance.h"
#include "ood/ops/by_type.h"
#include "ood/ops/direct_loss.h"
#include "ood/ops/distances.h"

/// Losses of the squared distance of a row to one center, which all rows share or its class has. The
/// inputs of Deep SVDD and Deep SAD are embedding [N, D], target [N] and center [D].
namespace ood::sphere {

enum { kEmbedding, kLabels, kCenter, kRadius };  // of the inputs; Deep SAD has no radius

inline void check(std::string_view objective, Tensors in) {
  const auto &x = in[kEmbedding], &target = in[kLabels];
  TORCH_CHECK_VALUE(x.dim() == 2 && in[kCenter].sym_numel() == x.sym_size(1), objective,
                    ": expected embedding [N, D] and center [D], got ", x.sym_sizes(), " and ",
                    in[kCenter].sym_sizes());
  TORCH_CHECK_VALUE(target.dim() == 1 && target.sym_size(0) == x.sym_size(0), objective,
                    ": expected target [", x.sym_size(0), "], got ", target.sym_sizes());
}

/// embedding [N, D], center [D] -> squared distances [N].
inline at::Tensor distances(const at::Tensor& embedding, const at::Tensor& center) {
  return center_distances(embedding, center.reshape({1, -1}), true).squeeze(1);
}

/// A row's value and its derivative by the squared distance.
template <class F>
struct Row {
  F value = 0, slope = 0;
};

/// sum_i scale f(y_i, d_i) with d_i = ||x_i - c_k||^2, k = center_of(y_i), of rows with k >= 0:
///
///   dx_i = 2 scale f' (x_i - c_k)     dc_k = -sum of dx_i over the rows of center k
///
/// Of inputs embedding [N, D], target [N] and centers [K, D], or one center [D].
template <class F, class CenterOf, class RowOf>
Parts parts(Tensors in, std::int64_t wanted, double scale, const CenterOf& center_of,
            const RowOf& row_of) {
  const auto x = in[kEmbedding].contiguous(), c = in[kCenter].contiguous(),
             target = in[kLabels].contiguous();
  const auto n = x.size(0), width = x.size(1);
  const bool want_x = ops::wants(wanted, kEmbedding), want_c = ops::wants(wanted, kCenter);
  auto to_x = want_x || want_c ? at::empty({n, width}, x.options()) : at::Tensor();
  const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
  const auto* y = target.const_data_ptr<std::int64_t>();
  F* g = to_x.defined() ? to_x.mutable_data_ptr<F>() : nullptr;
  std::vector<double> values(static_cast<std::size_t>(n));
  const auto grain = std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(width, 1));
  at::parallel_for(0, n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const std::int64_t k = center_of(y[i]);
      const F* own = pc + std::max<std::int64_t>(k, 0) * width;
      Row<F> row;
      if (k >= 0) {
        F d = 0;
        kernels::square_distances(px + i * width, 1, own, 1, width, &d, 1);
        row = row_of(y[i], d);
      }
      values[static_cast<std::size_t>(i)] = row.value;
      const F weight = static_cast<F>(2 * scale) * row.slope;
      if (g != nullptr)
        kernels::weighted_difference(px + i * width, own, width, weight, g + i * width);
    }
  });
  Parts out{{scale * std::accumulate(values.begin(), values.end(), 0.0)},
            std::vector<at::Tensor>(in.size())};
  if (want_x) out.gradients[kEmbedding] = to_x;
  if (!want_c) return out;
  std::vector<double> sums(static_cast<std::size_t>(c.numel()), 0.0);
  for (std::int64_t i = 0; i < n; ++i)
    if (const std::int64_t k = center_of(y[i]); k >= 0)
      for (std::int64_t j = 0; j < width; ++j)
        sums[static_cast<std::size_t>(k * width + j)] -= g[i * width + j];
  out.gradients[kCenter] = at::empty(c.sizes(), c.options());
  std::copy(sums.begin(), sums.end(), out.gradients[kCenter].template mutable_data_ptr<F>());
  return out;
}

/// The mean of the first pass as a center: entries within 0.1 of 0 move to +-0.1 by their sign,
/// exact zeros stay.
void begin(const at::Tensor& center, const Event& event);

}  // namespace ood::sphere
