#include "ood/ops/distance_gradients.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "ood/kernels/distance.h"
#include "ood/ops/axis_anchors.h"
#include "ood/ops/by_type.h"
#include "ood/ops/distance_blocks.h"
#include "ood/ops/product.h"

namespace ood::ops {
namespace {

using at::Tensor;

// Share of weights below which they are taken one by one: measured, a product is as fast at 0.1 for
// 100 to 2000 centers and 64 to 768 features, at 0.3 for 10 centers. One weight a row is taken so
// in any case: that row is near its center.
double sparse(std::int64_t centers) { return centers < 32 ? 0.3 : 0.1; }

std::size_t place(std::int64_t i) { return static_cast<std::size_t>(i); }

// Whether a weight takes part; a NaN does.
template <class F>
bool counts(F weight) {
  return !(std::abs(weight) < std::numeric_limits<F>::min());
}

// How many weights of each row take part, and whether others are not 0 all the same: a product with
// such numbers takes a hundred times as long.
struct Usage {
  std::vector<std::int64_t> of_row;
  std::int64_t all = 0;
  bool tiny = false;

  double share(std::int64_t of) const { return static_cast<double>(all) / static_cast<double>(of); }
};

template <class F>
Usage usage_of(const Tensor& weight) {
  const auto n = weight.size(0), k = weight.size(1);
  const F* w = weight.const_data_ptr<F>();
  Usage out{std::vector<std::int64_t>(place(n)), 0, false};
  std::vector<int> tiny(place(n));
  at::parallel_for(0, n, rows_per_task(k), [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      int used = 0, not_zero = 0;
      for (std::int64_t j = 0; j < k; ++j) {
        used += static_cast<int>(counts(w[i * k + j]));
        not_zero += static_cast<int>(w[i * k + j] != 0);
      }
      out.of_row[place(i)] = used;
      tiny[place(i)] = not_zero - used;
    }
  });
  for (std::int64_t i = 0; i < n; ++i) {
    out.all += out.of_row[place(i)];
    out.tiny = out.tiny || tiny[place(i)] != 0;
  }
  return out;
}

// Weights one by one: those of row i are the entries from begin[i] to begin[i + 1], entry e is
// weight[e] for row index[e] of the other matrix.
template <class F>
struct Entries {
  std::vector<std::int64_t> begin, index;
  std::vector<F> weight;
};

template <class F>
Entries<F> entries_of(const Tensor& weight, const Usage& usage, F factor) {
  const auto n = weight.size(0), k = weight.size(1);
  const F* w = weight.const_data_ptr<F>();
  Entries<F> out{
      {0}, std::vector<std::int64_t>(place(usage.all)), std::vector<F>(place(usage.all))};
  for (const auto count : usage.of_row) out.begin.push_back(out.begin.back() + count);
  at::parallel_for(0, n, rows_per_task(k), [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      auto e = place(out.begin[place(i)]);
      const auto last = place(out.begin[place(i) + 1]);
      for (std::int64_t j = 0; e < last; ++j)
        if (const F v = w[i * k + j]; counts(v)) {
          out.index[e] = j;
          out.weight[e++] = factor * v;
        }
    }
  });
  return out;
}

// The same weights by rows of the other matrix.
template <class F>
Entries<F> transposed(const Entries<F>& rows, std::int64_t columns) {
  Entries<F> out{std::vector<std::int64_t>(place(columns) + 1),
                 std::vector<std::int64_t>(rows.index.size()), std::vector<F>(rows.weight.size())};
  for (const auto j : rows.index) ++out.begin[place(j) + 1];
  for (std::size_t j = 0; j < place(columns); ++j) out.begin[j + 1] += out.begin[j];
  auto next = out.begin;
  for (std::size_t i = 0; i + 1 < rows.begin.size(); ++i)
    for (auto e = place(rows.begin[i]); e < place(rows.begin[i + 1]); ++e) {
      const auto to = place(next[place(rows.index[e])]++);
      out.index[to] = static_cast<std::int64_t>(i);
      out.weight[to] = rows.weight[e];
    }
  return out;
}

// sum over its entries of w (a_i - b_j), for every row of a.
template <class F>
Tensor weighted_differences(const Tensor& a, const Tensor& b, const Entries<F>& entries) {
  const auto n = a.size(0), d = a.size(1);
  auto out = at::empty({n, d}, a.options());
  const F *pa = a.const_data_ptr<F>(), *pb = b.const_data_ptr<F>();
  F* to = out.template mutable_data_ptr<F>();
  const auto each = static_cast<std::int64_t>(entries.index.size()) / std::max<std::int64_t>(n, 1);
  at::parallel_for(0, n, rows_per_task((each + 1) * d), [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const auto first = entries.begin[place(i)], last = entries.begin[place(i) + 1];
      kernels::weighted_differences(pa + i * d, pb, last - first, d, entries.weight.data() + first,
                                    entries.index.data() + first, to + i * d);
    }
  });
  return out;
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

struct Points {
  Tensor all, centred;
};

// Row i of `out` once more, directly, if it is not finite: 0 times the NaN of a row that takes no
// part is not 0.
template <class F>
void mend(const Tensor& a, const Tensor& b, const Tensor& weight, F factor, std::int64_t i,
          F* out) {
  const auto d = a.size(1);
  if (std::isfinite(sum_of(out, d))) return;
  const auto row = weight.slice(0, i, i + 1).contiguous();
  const auto entries = entries_of(row, usage_of<F>(row), factor);
  kernels::weighted_differences(a.const_data_ptr<F>() + i * d, b.const_data_ptr<F>(),
                                entries.begin[1], d, entries.weight.data(), entries.index.data(),
                                out);
}

// The same by a product: f (s_i a_i - (w b)_i) of centred rows, s the sums of w.
template <class F>
Tensor product_differences(const Points& a, const Points& b, const Tensor& weight, F factor) {
  const auto d = a.all.size(1);
  const F* pa = a.centred.const_data_ptr<F>();
  const auto sums = weight.sum(1);
  const F* of_row = sums.const_data_ptr<F>();
  return product(weight, b.centred, [&](std::int64_t begin, std::int64_t end, Tensor& rows) {
    F* to = rows.mutable_data_ptr<F>();
    for (auto i = begin; i < end; ++i, to += d) {
      const F sum = factor * of_row[i];
      for (std::int64_t e = 0; e < d; ++e) to[e] = sum * pa[i * d + e] - factor * to[e];
      mend(a.all, b.all, weight, factor, i, to);
    }
  });
}

// sum_j w_j (x - m e_j) = x sum_j w_j - m w
template <class F>
Tensor anchor_differences(const Tensor& x, const Tensor& anchors, const Tensor& weight, F m,
                          F factor) {
  const auto n = x.size(0), k = x.size(1);
  auto out = at::empty({n, k}, x.options());
  const F *px = x.const_data_ptr<F>(), *w = weight.const_data_ptr<F>();
  F* to = out.template mutable_data_ptr<F>();
  at::parallel_for(0, n, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const F sum = sum_of(w + i * k, k);
      for (std::int64_t e = 0; e < k; ++e)
        to[i * k + e] = factor * (sum * px[i * k + e] - m * w[i * k + e]);
      mend(x, anchors, weight, factor, i, to + i * k);
    }
  });
  return out;
}

// The rows with a weight; undefined where they are most, or copying the others away costs more
// than the work on them.
Tensor used_rows(const Usage& usage, std::int64_t k, std::int64_t d) {
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < usage.of_row.size(); ++i)
    if (usage.of_row[i] > 0) rows.push_back(static_cast<std::int64_t>(i));
  constexpr std::int64_t kCopied = 32;  // multiplications that take as long as copying a number
  const bool most = 4 * rows.size() > 3 * usage.of_row.size();
  return most || k * d < kCopied * (k + 2 * d) ? Tensor() : at::tensor(rows, at::kLong);
}

}  // namespace

std::pair<Tensor, Tensor> distance_gradients(const Tensor& x, const Tensor& c, const Tensor& w,
                                             double f, bool want_x, bool want_c) {
  const auto n = x.size(0), k = c.size(0), d = x.size(1);
  std::pair<Tensor, Tensor> out;
  by_type(x, "center_distances", [&](auto zero) {
    using F = decltype(zero);
    const F factor = static_cast<F>(f);
    const auto usage = usage_of<F>(w);
    if (!is_large(n, k, d) || usage.all <= n || usage.share(n * k) < sparse(k)) {
      const auto entries = entries_of(w, usage, factor);
      if (want_x) out.first = weighted_differences(x, c, entries);
      if (want_c) out.second = weighted_differences(c, x, transposed(entries, k));
      return;
    }
    const auto rows = used_rows(usage, k, d);
    const auto of_used = [&](const Tensor& t) {
      return rows.defined() ? t.index_select(0, rows) : t;
    };
    const auto spread = [&](const Tensor& of_rows) {
      return rows.defined() ? at::zeros({n, d}, x.options()).index_copy_(0, rows, of_rows)
                            : of_rows;
    };
    const auto used_x = of_used(x);
    auto weight = of_used(w);
    if (usage.tiny) weight = weight * weight.abs().ge(std::numeric_limits<F>::min());
    const auto m = want_x ? static_cast<F>(axis_anchors(c)) : F{0};
    if (m != 0) out.first = spread(anchor_differences(used_x, c, weight, m, factor));
    if (m != 0 && !want_c) return;
    const auto shift = c.mean(0, true);
    const Points of_x{used_x, used_x - shift}, of_c{c, c - shift};
    if (want_x && m == 0) out.first = spread(product_differences(of_x, of_c, weight, factor));
    if (want_c) out.second = product_differences(of_c, of_x, weight.t(), factor);
  });
  return out;
}

}  // namespace ood::ops
