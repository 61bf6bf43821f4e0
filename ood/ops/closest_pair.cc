#include "ood/ops/closest_pair.h"

#include <ATen/Parallel.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ood/kernels/distance.h"
#include "ood/ops/by_type.h"
#include "ood/ops/distance_blocks.h"

namespace ood::ops {
namespace {

using at::Tensor;

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

// Calls body(begin, end) for blocks of rows. Blocks from both ends in turn, so that threads have
// as much to do where the work of a block falls with its number.
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

}  // namespace ood::ops
