#include "ood/distributed/row_split.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace ood {
namespace {

namespace ag = torch::autograd;

struct Gather : ag::Function<Gather> {
  static at::Tensor forward(ag::AutogradContext* ctx, const at::Tensor& rows, const Ranks* ranks,
                            std::int64_t most, const at::Tensor& order, const at::Tensor& own) {
    ctx->save_for_backward({own});
    ctx->saved_data["ranks"] = static_cast<std::int64_t>(ranks->size());
    auto padded = at::zeros({most, rows.size(1)}, rows.options());
    padded.narrow(0, 0, rows.size(0)).copy_(rows);
    return ranks->gather(padded).flatten(0, 1).index_select(0, order);
  }
  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& gradients) {
    const auto own = ctx->get_saved_variables()[0];
    const auto gradient = gradients[0].index_select(0, own) *
                          static_cast<double>(ctx->saved_data["ranks"].toInt());
    return {gradient, {}, {}, {}, {}};
  }
};

}  // namespace

RowSplit::RowSplit(std::int64_t id, std::int64_t outliers, const Ranks& ranks) : ranks_(ranks) {
  const std::int64_t size = ranks.size();
  // Where each rank's part of n rows begins.
  const auto begin = [&](std::int64_t n, std::int64_t rank) { return n * rank / size; };
  std::vector<std::vector<std::int64_t>> rows(static_cast<std::size_t>(size));
  for (std::int64_t r = 0; r < size; ++r) {
    auto& of_rank = rows[static_cast<std::size_t>(r)];
    for (auto i = begin(id, r); i < begin(id, r + 1); ++i) of_rank.push_back(i);
    for (auto i = begin(outliers, r); i < begin(outliers, r + 1); ++i) of_rank.push_back(id + i);
    most_ = std::max(most_, static_cast<std::int64_t>(of_rank.size()));
  }
  order_ = at::empty({id + outliers}, at::kLong);
  auto* order = order_.mutable_data_ptr<std::int64_t>();
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t i = 0; i < rows[r].size(); ++i)
      order[rows[r][i]] = static_cast<std::int64_t>(r) * most_ + static_cast<std::int64_t>(i);
  own_ = rows[static_cast<std::size_t>(ranks.rank())];
  own_indices_ = at::tensor(own_, at::kLong);
}

at::Tensor RowSplit::gathered(const at::Tensor& own_rows) const {
  if (ranks_.alone()) return own_rows;
  return Gather::apply(own_rows, &ranks_, most_, order_, own_indices_);
}

}  // namespace ood
