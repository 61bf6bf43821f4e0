#include "ood/ops/distance_products.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <vector>

#include "ood/kernels/distance.h"
#include "ood/kernels/row.h"
#include "ood/kernels/simd_level.h"
#include "ood/ops/axis_anchors.h"
#include "ood/ops/by_type.h"
#include "ood/ops/distance_blocks.h"
#include "ood/ops/product.h"

namespace ood::ops {
namespace {

using at::Tensor;

// d^2 below this share of the squares it is the difference of has lost digits.
constexpr double kNear = 0.2;
// With fewer, a product is a pass over the rows as well, and not the faster one.
constexpr std::int64_t kManyCenters = 16;
// With 32 registers direct differences of that many numbers are as fast as a product, or faster
// (512x1000 of 512 numbers: 1.4 ms, the product alone 2.5); with 16 they take 1.4 times as long.
constexpr std::int64_t kWideForTiles = 64;

bool product_pays(std::int64_t n, std::int64_t k, std::int64_t d) {
  const bool tiles = kernels::simd_level() == kernels::SimdLevel::kAvx512 && d >= kWideForTiles;
  return is_large(n, k, d) && n > 1 && k >= kManyCenters && !tiles;
}

template <class F>
std::vector<F> square_norms(const Tensor& rows) {
  std::vector<F> out(static_cast<std::size_t>(rows.size(0)));
  const auto width = rows.size(1);
  const F* data = rows.const_data_ptr<F>();
  at::parallel_for(0, rows.size(0), rows_per_task(width),
                   [&](std::int64_t begin, std::int64_t end) {
                     kernels::row_square_norms(
                         kernels::Rows<F>{data + begin * width, end - begin, width, width, nullptr},
                         out.data() + begin);
                   });
  return out;
}

// ||x - m e_k||^2 = ||x||^2 + m^2 - 2 m x_k
template <class F>
void anchor_distances(const Tensor& x, const Tensor& centers, F m, Tensor& out) {
  const auto k = centers.size(0);
  const F *px = x.const_data_ptr<F>(), *pc = centers.const_data_ptr<F>();
  F* to = out.mutable_data_ptr<F>();
  at::parallel_for(0, x.size(0), kBlock, [&](std::int64_t begin, std::int64_t end) {
    const std::vector<F> zero(static_cast<std::size_t>(k), F{0});
    for (auto i = begin; i < end; ++i) {
      const F* row = px + i * k;
      F norm = 0;
      kernels::square_distances(row, 1, zero.data(), 1, k, &norm, 1);
      const F both = norm + m * m;
      for (std::int64_t j = 0; j < k; ++j) to[i * k + j] = both - 2 * m * row[j];
      for (std::int64_t j = 0; j < k; ++j)
        if (!(to[i * k + j] >= static_cast<F>(kNear) * both))
          kernels::square_distances(row, 1, pc + j * k, 1, k, to + i * k + j, 1);
    }
  });
}

// d = ||a||^2 + ||b||^2 - 2 a.b of centred rows a, b: half the arithmetic of direct differences,
// which are taken where d has lost digits, or is NaN.
template <class F>
Tensor product_distances(const Tensor& x, const Tensor& c) {
  const auto k = c.size(0), d = x.size(1);
  const auto shift = c.mean(0, true), a = x - shift, b = c - shift;
  const auto norm_a = square_norms<F>(a), norm_b = square_norms<F>(b);
  const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
  const auto lost = [](F distance, F both) { return !(distance >= static_cast<F>(kNear) * both); };
  const auto finish = [&](std::int64_t begin, std::int64_t end, F* to) {
    std::int64_t near = 0;
    for (auto i = begin; i < end; ++i) {
      const F own = norm_a[static_cast<std::size_t>(i)];
      F* row = to + (i - begin) * k;
      int of_row = 0;
      for (std::int64_t j = 0; j < k; ++j) {
        const F both = own + norm_b[static_cast<std::size_t>(j)];
        row[j] = both - 2 * row[j];
        of_row += static_cast<int>(lost(row[j], both));
      }
      near += of_row;
    }
    if (near > (end - begin) * k / 4) {
      kernels::square_distances(px + begin * d, end - begin, pc, k, d, to, k);
      return;
    }
    for (auto i = begin; i < end && near > 0; ++i)
      for (std::int64_t j = 0; j < k && near > 0; ++j) {
        F* at = to + (i - begin) * k + j;
        if (!lost(*at, norm_a[static_cast<std::size_t>(i)] + norm_b[static_cast<std::size_t>(j)]))
          continue;
        kernels::square_distances(px + i * d, 1, pc + j * d, 1, d, at, 1);
        --near;
      }
  };
  return product(a, b.t(), [&](std::int64_t begin, std::int64_t end, Tensor& rows) {
    F* to = rows.mutable_data_ptr<F>();
    for (auto i = begin; i < end; i += kBlock)
      finish(i, std::min(i + kBlock, end), to + (i - begin) * k);
  });
}

}  // namespace

Tensor square_distances(const Tensor& x, const Tensor& c) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  Tensor out;
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const bool look = is_large(n, k, d) && k >= kManyCenters;
    const auto m = look ? static_cast<F>(axis_anchors(c)) : F{0};
    if (m == 0 && product_pays(n, k, d)) {
      out = product_distances<F>(x, c);
      return;
    }
    out = at::empty({n, k}, x.options());
    if (m != 0) return anchor_distances(x, c, m, out);
    const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    at::parallel_for(0, n, rows_per_task(k * d), [&](std::int64_t begin, std::int64_t end) {
      kernels::square_distances(px + begin * d, end - begin, pc, k, d, to + begin * k, k);
    });
  });
  return out;
}

}  // namespace ood::ops
