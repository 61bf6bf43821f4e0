#include "ood/ops/distance_products.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "ood/kernels/distance.h"
#include "ood/ops/by_type.h"

namespace ood::ops {
namespace {

using at::Tensor;

// Multiplications from which on a product pays.
constexpr std::int64_t kProduct = 1 << 21;
constexpr std::int64_t kBlock = 64;
// d^2 below this share of ||a||^2 + ||b||^2 has lost digits in the product.
constexpr double kNear = 0.05;
constexpr double kSparse = 0.05;  // share of weights below which a block is summed directly

std::int64_t rows_per_task(std::int64_t work) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(work, 1));
}

struct Centred {
  Tensor x, c;
  Centred(const Tensor& x_in, const Tensor& c_in) {
    const auto shift = c_in.mean(0, true);
    x = x_in - shift;
    c = c_in - shift;
  }
};

}  // namespace

Tensor square_distances(const Tensor& x, const Tensor& c) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  auto out = at::empty({n, k}, x.options());
  const bool product = n * k * d >= kProduct && d >= 16 && k >= 16;
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    if (!product) {
      at::parallel_for(0, n, rows_per_task(k * d), [&](std::int64_t begin, std::int64_t end) {
        kernels::square_distances(px + begin * d, end - begin, pc, k, d, to + begin * k, k);
      });
      return;
    }
    const Centred centred(x, c);
    const auto norm_x = centred.x.square().sum(1), norm_c = centred.c.square().sum(1);
    const F *nx = norm_x.const_data_ptr<F>(), *nc = norm_c.const_data_ptr<F>();
    const auto transposed = centred.c.t();
    at::parallel_for(0, (n + kBlock - 1) / kBlock, 1, [&](std::int64_t first, std::int64_t last) {
      for (auto b = first; b < last; ++b) {
        const auto begin = b * kBlock, end = std::min(begin + kBlock, n);
        auto block = out.slice(0, begin, end);
        at::mm_out(block, centred.x.slice(0, begin, end), transposed);
        for (auto i = begin; i < end; ++i)
          for (std::int64_t j = 0; j < k; ++j) {
            const F both = nx[i] + nc[j], square = both - 2 * to[i * k + j];
            to[i * k + j] = square;
            if (!(square >= static_cast<F>(kNear) * both))
              kernels::square_distances(px + i * d, 1, pc + j * d, 1, d, to + i * k + j, 1);
          }
      }
    });
  });
  return out;
}

Tensor weighted_differences(const Tensor& x, const Tensor& c, const Tensor& weight) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  auto out = at::empty({n, d}, x.options());
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
    const F* w = weight.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    const auto directly = [&](std::int64_t i) {
      F* row = to + i * d;
      std::fill(row, row + d, F{0});
      for (std::int64_t j = 0; j < k; ++j)
        if (const F v = w[i * k + j]; v != 0)
          for (std::int64_t e = 0; e < d; ++e) row[e] += v * (px[i * d + e] - pc[j * d + e]);
    };
    if (n * k * d < kProduct || k < 16 || d < 16) {
      at::parallel_for(0, n, rows_per_task(k * d), [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i)
          kernels::weighted_differences(px + i * d, pc, k, d, w + i * k, 1, to + i * d);
      });
      return;
    }
    const Centred centred(x, c);
    const F* ax = centred.x.const_data_ptr<F>();
    at::parallel_for(0, (n + kBlock - 1) / kBlock, 1, [&](std::int64_t first, std::int64_t last) {
      for (auto b = first; b < last; ++b) {
        const auto begin = b * kBlock, end = std::min(begin + kBlock, n);
        const auto used = std::count_if(w + begin * k, w + end * k, [](F v) { return v != 0; });
        if (static_cast<double>(used) < kSparse * static_cast<double>((end - begin) * k)) {
          for (auto i = begin; i < end; ++i) directly(i);
          continue;
        }
        auto block = out.slice(0, begin, end);
        at::mm_out(block, weight.slice(0, begin, end), centred.c);
        for (auto i = begin; i < end; ++i) {
          F sum = 0;
          for (std::int64_t j = 0; j < k; ++j) sum += w[i * k + j];
          for (std::int64_t e = 0; e < d; ++e) to[i * d + e] = sum * ax[i * d + e] - to[i * d + e];
        }
      }
    });
  });
  return out;
}

}  // namespace ood::ops
