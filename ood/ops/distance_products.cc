#include "ood/ops/distance_products.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>
#include <vector>

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

// Rows of squared distances to c, computed block by block with products.
template <class F>
class ProductRows {
 public:
  ProductRows(const Tensor& x, const Tensor& c)
      : x_(x),
        c_(c),
        centred_(x, c),
        norm_x_(centred_.x.square().sum(1)),
        norm_c_(centred_.c.square().sum(1)),
        transposed_(centred_.c.t()) {}

  /// Rows [begin, end) to the columns from `first` on, into `out` [end - begin, K - first].
  void compute(std::int64_t begin, std::int64_t end, std::int64_t first, Tensor& out) const {
    const auto k = c_.size(0), d = x_.size(1);
    at::mm_out(out, centred_.x.slice(0, begin, end), transposed_.slice(1, first));
    const F *nx = norm_x_.const_data_ptr<F>(), *nc = norm_c_.const_data_ptr<F>();
    const F *px = x_.const_data_ptr<F>(), *pc = c_.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    for (auto i = begin; i < end; ++i)
      for (auto j = first; j < k; ++j, ++to) {
        const F both = nx[i] + nc[j], square = both - 2 * *to;
        *to = square;
        if (!(square >= static_cast<F>(kNear) * both))
          kernels::square_distances(px + i * d, 1, pc + j * d, 1, d, to, 1);
      }
  }

 private:
  Tensor x_, c_;
  Centred centred_;
  Tensor norm_x_, norm_c_, transposed_;
};

// Calls body(begin, end) for blocks of rows. Blocks from both ends in turn, so that threads have as
// much to do where the work of a block falls with its number.
template <class Body>
void for_each_block(std::int64_t rows, const Body& body) {
  const std::int64_t blocks = (rows + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (auto i = first; i < last; ++i) {
      const auto b = i % 2 == 0 ? i / 2 : blocks - 1 - i / 2;
      body(b * kBlock, std::min((b + 1) * kBlock, rows));
    }
  });
}

bool product_pays(std::int64_t n, std::int64_t k, std::int64_t d) {
  return n * k * d >= kProduct && d >= 16 && k >= 16;
}

}  // namespace

Tensor square_distances(const Tensor& x, const Tensor& c) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  auto out = at::empty({n, k}, x.options());
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    if (!product_pays(n, k, d)) {
      const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
      F* to = out.mutable_data_ptr<F>();
      at::parallel_for(0, n, rows_per_task(k * d), [&](std::int64_t begin, std::int64_t end) {
        kernels::square_distances(px + begin * d, end - begin, pc, k, d, to + begin * k, k);
      });
      return;
    }
    const ProductRows<F> rows(x, c);
    for_each_block(n, [&](std::int64_t begin, std::int64_t end) {
      auto block = out.slice(0, begin, end);
      rows.compute(begin, end, 0, block);
    });
  });
  return out;
}

std::pair<std::int64_t, std::int64_t> closest_pair(const Tensor& all, const Tensor& counts) {
  const auto* count = counts.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> present;
  for (std::int64_t i = 0; i < all.size(0); ++i)
    if (count[i] > 0) present.push_back(i);
  if (present.size() < 2) return {0, 0};
  const auto rows = all.index_select(0, at::tensor(present, counts.options()));
  const auto n = rows.size(0), d = rows.size(1);
  std::pair<std::int64_t, std::int64_t> pair{0, 0};
  by_type(rows, "closest_pair", [&](auto zero) {
    using F = decltype(zero);
    struct Best {
      F distance = std::numeric_limits<F>::infinity();
      std::int64_t i = 0, j = 0;
    };
    // Of the columns from a block's first row on: the others are pairs of earlier blocks.
    std::vector<Best> best(static_cast<std::size_t>((n + kBlock - 1) / kBlock));
    const auto scan = [&](std::int64_t begin, std::int64_t end, const Tensor& block) {
      Best& own = best[static_cast<std::size_t>(begin / kBlock)];
      const F* distance = block.const_data_ptr<F>();
      for (auto i = begin; i < end; ++i)
        for (auto j = begin; j < n; ++j, ++distance)
          if (j > i && *distance < own.distance) own = {*distance, i, j};
    };
    if (product_pays(n, n, d)) {
      const ProductRows<F> products(rows, rows);
      for_each_block(n, [&](std::int64_t begin, std::int64_t end) {
        auto block = at::empty({end - begin, n - begin}, rows.options());
        products.compute(begin, end, begin, block);
        scan(begin, end, block);
      });
    } else {
      for_each_block(n, [&](std::int64_t begin, std::int64_t end) {
        auto block = at::empty({end - begin, n - begin}, rows.options());
        const F* p = rows.const_data_ptr<F>();
        kernels::square_distances(p + begin * d, end - begin, p + begin * d, n - begin, d,
                                  block.mutable_data_ptr<F>(), n - begin);
        scan(begin, end, block);
      });
    }
    Best least;
    for (const Best& b : best)
      if (b.distance < least.distance) least = b;
    if (least.i < least.j)
      pair = {present[static_cast<std::size_t>(least.i)],
              present[static_cast<std::size_t>(least.j)]};
  });
  return pair;
}

Tensor weighted_differences(const Tensor& x, const Tensor& c, const Tensor& weight) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  auto out = at::empty({n, d}, x.options());
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
    const F* w = weight.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    const auto directly = [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i)
        kernels::weighted_differences(px + i * d, pc, k, d, w + i * k, 1, to + i * d);
    };
    if (!product_pays(n, k, d)) {
      at::parallel_for(0, n, rows_per_task(k * d), directly);
      return;
    }
    const Centred centred(x, c);
    const F* ax = centred.x.const_data_ptr<F>();
    for_each_block(n, [&](std::int64_t begin, std::int64_t end) {
      const auto used = std::count_if(w + begin * k, w + end * k, [](F v) { return v != 0; });
      if (static_cast<double>(used) < kSparse * static_cast<double>((end - begin) * k))
        return directly(begin, end);
      auto block = out.slice(0, begin, end);
      at::mm_out(block, weight.slice(0, begin, end), centred.c);
      for (auto i = begin; i < end; ++i) {
        F sum = 0;
        for (std::int64_t j = 0; j < k; ++j) sum += w[i * k + j];
        for (std::int64_t e = 0; e < d; ++e) to[i * d + e] = sum * ax[i * d + e] - to[i * d + e];
      }
    });
  });
  return out;
}

}  // namespace ood::ops
