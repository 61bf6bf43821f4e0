#include "ood/ops/product.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include <algorithm>

#include "ood/ops/distance_blocks.h"

namespace ood::ops {

using at::Tensor;

namespace {

// A thread of the pool does not know what the caller has switched off.
struct PlainTensors {
  at::AutoDispatchBelowADInplaceOrView below;
  at::NoGradGuard no_grad;
};

std::int64_t pieces_of(std::int64_t n, std::int64_t in_piece) {
  return std::max<std::int64_t>(1, (n + in_piece - 1) / in_piece);
}

}  // namespace

Tensor product(const Tensor& a, const Tensor& b,
               const std::function<void(std::int64_t, std::int64_t, Tensor&)>& finish) {
  // Small blocks would pack the other factor too often.
  constexpr std::int64_t kBlocks = 8, kMost = 512, kInner = 16384;
  const auto n = a.size(0), k = a.size(1), d = b.size(1);
  auto rows = std::clamp((n / kBlocks + kBlock - 1) / kBlock * kBlock, kBlock, kMost);
  auto inner = kInner;
  // A single piece would be divided by the library, by the number of threads.
  if (n <= rows && k <= inner) (n > 1 ? rows : inner) = ((n > 1 ? n : k) + 1) / 2;
  const auto blocks = pieces_of(n, rows), pieces = pieces_of(k, inner);
  auto out = at::empty({n, d}, a.options());
  const auto parts = pieces > 1 ? at::empty({pieces, n, d}, a.options()) : out.unsqueeze(0);
  at::parallel_for(0, blocks * pieces, 1, [&](std::int64_t first, std::int64_t last) {
    const PlainTensors plain;
    for (auto t = first; t < last; ++t) {
      const auto begin = t / pieces * rows, end = std::min(begin + rows, n);
      const auto from = t % pieces * inner, to = std::min(from + inner, k);
      auto part = parts.select(0, t % pieces).slice(0, begin, end);
      at::mm_out(part, a.slice(0, begin, end).slice(1, from, to), b.slice(0, from, to));
      if (pieces == 1) finish(begin, end, part);
    }
  });
  if (pieces == 1) return out;
  at::sum_out(out, parts, 0);
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    const PlainTensors plain;
    for (auto t = first; t < last; ++t) {
      const auto begin = t * rows, end = std::min(begin + rows, n);
      auto part = out.slice(0, begin, end);
      finish(begin, end, part);
    }
  });
  return out;
}

}  // namespace ood::ops
