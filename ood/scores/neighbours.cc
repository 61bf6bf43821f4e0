#include "ood/scores/neighbours.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <limits>

#include "ood/ops/by_type.h"

namespace ood {
namespace {

// Products of a block are read again while they are in the cache.
constexpr std::int64_t kQueries = 2048, kBank = 1024;

// The best k so far of one query, the least of them on top of a heap.
template <class F>
struct Best {
  F* value;
  std::int64_t* index;
  std::int64_t k;

  void start() {
    std::fill(value, value + k, -std::numeric_limits<F>::infinity());
    std::fill(index, index + k, std::int64_t{0});
  }

  // Replaces the least by a greater one.
  void take(F v, std::int64_t row) {
    std::int64_t at = 0;
    for (;;) {
      std::int64_t child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && value[child + 1] < value[child]) ++child;
      if (!(value[child] < v)) break;
      value[at] = value[child];
      index[at] = index[child];
      at = child;
    }
    value[at] = v;
    index[at] = row;
  }

  // Few numbers of a row exceed the least of the best: whole stretches are passed over at once.
  void scan(const F* products, std::int64_t n, std::int64_t first) {
    constexpr std::int64_t kStretch = 64;
    for (std::int64_t i = 0; i < n; i += kStretch) {
      const auto end = std::min(i + kStretch, n);
      const F least = value[0];
      int any = 0;
      for (auto j = i; j < end; ++j) any |= products[j] > least;
      if (any == 0) continue;
      for (auto j = i; j < end; ++j)
        if (products[j] > value[0]) take(products[j], first + j);
    }
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> largest_products(const at::Tensor& queries_in,
                                                   const at::Tensor& bank_in, std::int64_t k) {
  TORCH_CHECK_VALUE(k >= 1 && k <= bank_in.size(0), "expected a bank of at least ", k,
                    " rows, got ", bank_in.size(0));
  const auto queries = queries_in.contiguous(), bank = bank_in.contiguous();
  const auto n = queries.size(0), m = bank.size(0);
  auto values = at::empty({n, k}, queries.options());
  auto rows = at::empty({n, k}, queries.options().dtype(at::kLong));
  const auto buffer = at::empty({std::min(n, kQueries), std::min(m, kBank)}, queries.options());
  ops::by_type(queries, "largest_products", [&](auto zero) {
    using F = decltype(zero);
    F* value = values.mutable_data_ptr<F>();
    auto* index = rows.mutable_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < n; i += kQueries) {
      const auto block = queries.slice(0, i, std::min(i + kQueries, n));
      for (std::int64_t j = 0; j < m; j += kBank) {
        const auto part = bank.slice(0, j, std::min(j + kBank, m));
        auto products = buffer.slice(0, 0, block.size(0)).slice(1, 0, part.size(0));
        at::mm_out(products, block, part.t());
        const F* p = buffer.const_data_ptr<F>();
        const auto stride = buffer.size(1), width = part.size(0);
        at::parallel_for(0, block.size(0), 16, [&](std::int64_t begin, std::int64_t end) {
          for (auto q = begin; q < end; ++q) {
            Best<F> best{value + (i + q) * k, index + (i + q) * k, k};
            if (j == 0) best.start();
            best.scan(p + q * stride, width, j);
          }
        });
      }
    }
  });
  return {values, rows};
}

}  // namespace ood
