#include "ood/scores/fit_data.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include "ood/ops/by_type.h"

namespace ood {
namespace {

constexpr std::int64_t kBlock = 1024;  // rows at a time in float64, which stay in the cache

// sum of (x_i - m_i)(x_i - m_i)^T, m_i the mean [D], or with labels that of the row's class, of means
// [K, D]. A covariance is symmetric: of each stripe of columns only the products with itself and those
// to its right are computed.
at::Tensor second_moment(const at::Tensor& rows, const at::Tensor& means,
                         const at::Tensor& labels = {}) {
  const auto d = rows.size(1), stripe = std::max<std::int64_t>((d + 3) / 4, 64);
  auto sum = at::zeros({d, d}, means.options());
  for (std::int64_t i = 0; i < rows.size(0); i += kBlock) {
    const auto end = std::min(i + kBlock, rows.size(0));
    const auto block =
        rows.slice(0, i, end)
            .to(at::kDouble, false, /*copy=*/true)
            .sub_(labels.defined() ? means.index_select(0, labels.slice(0, i, end)) : means);
    for (std::int64_t j = 0; j < d; j += stripe) {
      const auto right = block.slice(1, j, d);
      sum.slice(0, j, std::min(j + stripe, d))
          .slice(1, j, d)
          .addmm_(block.slice(1, j, std::min(j + stripe, d)).t(), right);
    }
  }
  const auto upper = sum.triu();
  return upper + upper.triu(1).t();
}

}  // namespace

// Threads take columns, so that each sum is in the order of the rows.
std::pair<at::Tensor, at::Tensor> class_sums(const at::Tensor& rows_in, const at::Tensor& labels_in,
                                             std::int64_t classes) {
  const auto rows = rows_in.contiguous(), labels = labels_in.contiguous();
  const auto n = rows.size(0), d = rows.size(1);
  auto sums = at::zeros({classes, d}, rows.options().dtype(at::kDouble));
  auto counts = at::zeros({classes}, labels.options());
  const auto* y = labels.const_data_ptr<std::int64_t>();
  auto* count = counts.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i)
    if (y[i] >= 0) ++count[y[i]];
  double* to = sums.mutable_data_ptr<double>();
  ops::by_type(rows, "class_sums", [&](auto zero) {
    using F = decltype(zero);
    const F* x = rows.const_data_ptr<F>();
    at::parallel_for(0, d, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = 0; i < n; ++i) {
        if (y[i] < 0) continue;
        double* sum = to + y[i] * d;
        const F* row = x + i * d;
        for (auto j = begin; j < end; ++j) sum[j] += row[j];
      }
    });
  });
  return {sums, counts};
}

at::Tensor unit_rows(const at::Tensor& rows) {
  const auto norm_in = [&](at::ScalarType type) {
    return at::linalg_vector_norm(rows, 2, at::IntArrayRef{1}, true, type);
  };
  auto norm = norm_in(rows.scalar_type());
  // Squares of float32 numbers beyond 1e19 or below 1e-23 are none of that type; in float64 it is slow.
  constexpr double kLeast = 1e-15, kMost = 1e15;
  if (norm.lt(kLeast).logical_or_(norm.gt(kMost)).any().item<bool>())
    norm = norm_in(at::kDouble).to(rows.scalar_type());
  return rows / at::where(norm.gt(0), norm, 1.0);
}

at::Tensor through_head(const at::Tensor& features, const at::Tensor& weight,
                        const at::Tensor& bias) {
  const auto logits = features.mm(weight.to(features.scalar_type()).t());
  return bias.defined() ? logits + bias.to(features.scalar_type()) : logits;
}

// A tensor that was written to is another one, too, where torch counts that.
void FitData::forget_others() const {
  const std::array now{features, labels, weight, bias};
  bool same = true;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const bool counted = now[i].defined() && !now[i].is_inference();
    const auto version = counted ? static_cast<std::uint32_t>(now[i]._version()) : 0;
    same = same && now[i].is_same(of_[i]) && version == versions_[i];
    versions_[i] = version;
  }
  if (same) return;
  of_ = now;
  spread_ = {};
  moments_ = {};
  mean_ = class_means_ = {};
  counts_ = head_logits_ = normalized_ = at::Tensor();
  least_.reset();
}

std::int64_t FitData::classes() const {
  if (weight.defined()) return weight.size(0);
  return labels.numel() == 0 ? 0 : labels.max().item<std::int64_t>() + 1;
}

const at::Tensor& FitData::mean(bool normalized_rows) const {
  forget_others();
  auto& mean = mean_[normalized_rows];
  if (!mean.defined())
    mean = class_sums(normalized_rows ? normalized() : features, at::zeros({rows()}, at::kLong), 1)
               .first.squeeze(0) /
           static_cast<double>(rows());
  return mean;
}

const Spread& FitData::spread(bool normalized_rows) const {
  forget_others();
  auto& slot = spread_[normalized_rows];
  if (!slot) {
    const auto& m = mean(normalized_rows);
    const auto& x = normalized_rows ? normalized() : features;
    slot = Spread{m, second_moment(x, m) / static_cast<double>(rows())};
  }
  return *slot;
}

at::Tensor FitData::in_bank(const at::Tensor& rows) const {
  return bank.defined() ? rows.index_select(0, bank) : rows;
}

double FitData::least() const {
  forget_others();
  if (!least_) least_ = features.min().item<double>();
  return *least_;
}

const at::Tensor& FitData::normalized() const {
  forget_others();
  if (!normalized_.defined()) normalized_ = unit_rows(features);
  return normalized_;
}

std::vector<at::Tensor> FitData::head() const {
  // Of its own: the network may learn on.
  const auto own = [](const at::Tensor& t) { return t.to(at::kDouble, false, /*copy=*/true); };
  const auto w = own(weight);
  return {w, bias.defined() ? own(bias) : at::zeros({w.size(0)}, w.options())};
}

const at::Tensor& FitData::head_logits() const {
  forget_others();
  if (!head_logits_.defined()) head_logits_ = through_head(features, weight, bias);
  return head_logits_;
}

const at::Tensor& FitData::class_means(bool normalized_rows) const {
  forget_others();
  auto& means = class_means_[normalized_rows];
  if (means.defined()) return means;
  const auto [sums, counts] =
      class_sums(normalized_rows ? normalized() : features, labels, classes());
  for (std::int64_t c = 0; c < classes(); ++c)
    TORCH_CHECK_VALUE(counts[c].item<std::int64_t>() > 0, "class ", c, " has no training rows");
  counts_ = counts;
  return means = sums / counts.unsqueeze(1).to(at::kDouble);
}

// Around its mean, a class is what all rows are less what the means of the classes spread:
//
//   N within = N total - sum_k n_k (mu_k - mu)(mu_k - mu)^T
//
// of which little is left where classes are tight: there it is computed of the rows.
const Moments& FitData::moments(bool normalized_rows) const {
  forget_others();
  auto& slot = moments_[normalized_rows];
  if (slot) return *slot;
  const auto& means = class_means(normalized_rows);
  Moments m{spread(normalized_rows), means, {}};
  const auto off = m.means - m.mean;
  m.within = m.total -
             off.t().mm(off * counts_.unsqueeze(1).to(at::kDouble)) / static_cast<double>(rows());
  constexpr double kTight = 1e-6;
  if (m.within.diagonal().lt(kTight * m.total.diagonal()).any().item<bool>())
    m.within = second_moment(normalized_rows ? normalized() : features, means, labels) /
               static_cast<double>(rows());
  slot = std::move(m);
  return *slot;
}

}  // namespace ood
