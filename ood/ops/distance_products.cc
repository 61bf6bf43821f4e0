#include "ood/ops/distance_products.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "ood/kernels/distance.h"
#include "ood/ops/by_type.h"

namespace ood::ops {
namespace {

using at::Tensor;

// Multiplications from which on a look for anchors, or a product, pays.
constexpr std::int64_t kLarge = 1 << 21;
constexpr std::int64_t kBlock = 64;
// d^2 below this share of ||x||^2 + m^2 has lost digits.
constexpr double kNear = 0.05;
constexpr double kSparse = 0.05;  // share of weights below which a block is summed directly

std::int64_t rows_per_task(std::int64_t work) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(work, 1));
}

template <class F>
F sum_of(const F* values, std::int64_t n) {
  std::array<F, 8> lanes{};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) lanes[l] += values[i + static_cast<std::int64_t>(l)];
  for (; i < n; ++i) lanes[0] += values[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

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

// Anchors on the axes, m times the identity: what class anchor clustering starts with. All
// distances of a row are then O(K) work. Returns m, or 0 for other centers; those end the search at
// once.
template <class F>
F axis_anchors(const Tensor& centers) {
  const auto k = centers.size(0);
  if (k != centers.size(1)) return 0;
  const F* c = centers.const_data_ptr<F>();
  const F m = c[0];
  const auto is_anchor = [&](std::int64_t i) {
    const auto all_zero = [&](std::int64_t begin, std::int64_t end) {
      int others = 0;  // without a branch, so that it becomes vector code
      for (std::int64_t j = begin; j < end; ++j) others |= c[i * k + j] != 0;
      return others == 0;
    };
    return c[i * k + i] == m && all_zero(0, i) && all_zero(i + 1, k);
  };
  std::atomic<bool> all{is_anchor(0)};
  if (all)
    at::parallel_for(1, k, kBlock, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end && all; ++i)
        if (!is_anchor(i)) all = false;
    });
  return all ? m : F{0};
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

bool is_large(std::int64_t n, std::int64_t k, std::int64_t d) {
  return n * k * d >= kLarge && d >= 16 && k >= 16;
}

}  // namespace

Tensor square_distances(const Tensor& x, const Tensor& c) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  auto out = at::empty({n, k}, x.options());
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    if (is_large(n, k, d))
      if (const F m = axis_anchors<F>(c); m != 0) return anchor_distances(x, c, m, out);
    const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
    F* to = out.mutable_data_ptr<F>();
    at::parallel_for(0, n, rows_per_task(k * d), [&](std::int64_t begin, std::int64_t end) {
      kernels::square_distances(px + begin * d, end - begin, pc, k, d, to + begin * k, k);
    });
  });
  return out;
}

namespace {

// Two rows and their squared distance; of equal ones the first rows are less.
template <class F>
struct Pair {
  F distance = std::numeric_limits<F>::infinity();
  std::int64_t i = 0, j = 0;
  bool operator<(const Pair& other) const {
    return distance < other.distance ||
           (distance == other.distance && std::pair{i, j} < std::pair{other.i, other.j});
  }
};

// The closest pair of a row in [begin, end) and a later row.
template <class F>
Pair<F> closest_from(const F* rows, std::int64_t begin, std::int64_t end, std::int64_t n,
                     std::int64_t width) {
  Pair<F> best;
  std::vector<F> tile(static_cast<std::size_t>(kBlock * kBlock));
  for (auto first = begin; first < n; first += kBlock) {
    const auto last = std::min(first + kBlock, n), columns = last - first;
    kernels::square_distances(rows + begin * width, end - begin, rows + first * width, columns,
                              width, tile.data(), columns);
    for (auto i = begin; i < end; ++i) {
      const F* row = tile.data() + (i - begin) * columns;
      const auto later = std::max<std::int64_t>(0, i + 1 - first);
      // Without a branch, so that it becomes vector code; a NaN is not less.
      F least = std::numeric_limits<F>::infinity();
      for (auto j = later; j < columns; ++j) least = row[j] < least ? row[j] : least;
      if (!(least <= best.distance)) continue;
      for (auto j = later; j < columns; ++j)
        if (row[j] == least) {
          best = std::min(best, {least, i, first + j});
          break;
        }
    }
  }
  return best;
}

}  // namespace

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
    std::vector<Pair<F>> best(static_cast<std::size_t>((n + kBlock - 1) / kBlock));
    for_each_block(n, [&](std::int64_t begin, std::int64_t end) {
      best[static_cast<std::size_t>(begin / kBlock)] =
          closest_from(rows.const_data_ptr<F>(), begin, end, n, d);
    });
    if (const auto least = *std::min_element(best.begin(), best.end()); least.i < least.j)
      pair = {present[static_cast<std::size_t>(least.i)],
              present[static_cast<std::size_t>(least.j)]};
  });
  return pair;
}

std::optional<std::pair<Tensor, Tensor>> sparse_gradients(const Tensor& x, const Tensor& c,
                                                          const Tensor& weight) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  if (n * k < kLarge / 16) return std::nullopt;
  std::optional<std::pair<Tensor, Tensor>> out;
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const F* w = weight.const_data_ptr<F>();
    struct Entry {
      std::int64_t i, j;
    };
    std::vector<Entry> entries;
    constexpr std::int64_t kRun = 64;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t first = 0; first < k; first += kRun) {
        const auto last = std::min(first + kRun, k);
        int any = 0;
        for (auto j = first; j < last; ++j) any |= w[i * k + j] != 0;
        for (auto j = first; any != 0 && j < last; ++j)
          if (w[i * k + j] != 0) entries.push_back({i, j});
        if (static_cast<std::int64_t>(entries.size()) > 2 * n) return;
      }
    auto to_x = at::zeros_like(x), to_c = at::zeros_like(c);
    const F *px = x.const_data_ptr<F>(), *pc = c.const_data_ptr<F>();
    F *gx = to_x.mutable_data_ptr<F>(), *gc = to_c.mutable_data_ptr<F>();
    for (const Entry& e : entries)
      for (std::int64_t l = 0; l < d; ++l) {
        const F g = w[e.i * k + e.j] * (px[e.i * d + l] - pc[e.j * d + l]);
        gx[e.i * d + l] += g;
        gc[e.j * d + l] -= g;
      }
    out.emplace(to_x, to_c);
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
    const auto directly = [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i)
        kernels::weighted_differences(px + i * d, pc, k, d, w + i * k, 1, to + i * d);
    };
    if (!is_large(n, k, d)) {
      at::parallel_for(0, n, rows_per_task(k * d), directly);
      return;
    }
    if (const F m = axis_anchors<F>(c); m != 0) {
      // sum_k w_k (x - m e_k) = x sum_k w_k - m w
      at::parallel_for(0, n, kBlock, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) {
          const F sum = sum_of(w + i * k, k);
          for (std::int64_t e = 0; e < d; ++e)
            to[i * d + e] = sum * px[i * d + e] - m * w[i * k + e];
          // 0 times a NaN of a row that takes no part is not 0.
          if (!std::isfinite(sum_of(to + i * d, d))) directly(i, i + 1);
        }
      });
      return;
    }
    const auto shift = c.mean(0, true);
    const auto centred_x = x - shift, centred_c = c - shift;
    const F* ax = centred_x.template const_data_ptr<F>();
    for_each_block(n, [&](std::int64_t begin, std::int64_t end) {
      const auto used = std::count_if(w + begin * k, w + end * k, [](F v) { return v != 0; });
      if (static_cast<double>(used) < kSparse * static_cast<double>((end - begin) * k))
        return directly(begin, end);
      auto block = out.slice(0, begin, end);
      at::mm_out(block, weight.slice(0, begin, end), centred_c);
      for (auto i = begin; i < end; ++i) {
        const F sum = sum_of(w + i * k, k);
        for (std::int64_t e = 0; e < d; ++e) to[i * d + e] = sum * ax[i * d + e] - to[i * d + e];
        if (!std::isfinite(sum_of(to + i * d, d))) directly(i, i + 1);  // as above
      }
    });
  });
  return out;
}

}  // namespace ood::ops
