#include "ood/distributed/row_split.h"

#include <ATen/ops/cat.h>
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
  // A list of tensors would not be taken for inputs that need gradients.
  static ag::variable_list forward(ag::AutogradContext* ctx, const at::Tensor& first,
                                   const std::optional<at::Tensor>& second, const Ranks* ranks,
                                   std::int64_t most, const at::Tensor& order,
                                   const at::Tensor& own) {
    ag::variable_list parts{first};
    if (second) parts.push_back(*second);
    // What the loss does not use gets no gradient, as in one process, and not one of zeros.
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({own});
    ctx->saved_data["ranks"] = static_cast<std::int64_t>(ranks->size());
    const auto rows = parts.size() == 1 ? parts[0] : at::cat(parts, 1);
    auto padded = at::zeros({most, rows.size(1)}, rows.options());
    padded.narrow(0, 0, rows.size(0)).copy_(rows);
    const auto all = ranks->gather(padded).flatten(0, 1).index_select(0, order);
    ag::variable_list out;
    std::int64_t begin = 0;
    for (const auto& part : parts) {
      out.push_back(all.narrow(1, begin, part.size(1)).contiguous());
      begin += part.size(1);
    }
    return out;
  }
  static ag::variable_list backward(ag::AutogradContext* ctx, const ag::variable_list& gradients) {
    const auto own = ctx->get_saved_variables()[0];
    const auto ranks = static_cast<double>(ctx->saved_data["ranks"].toInt());
    ag::variable_list out;
    for (const auto& g : gradients)
      out.push_back(g.defined() ? g.index_select(0, own) * ranks : at::Tensor());
    out.resize(6);  // of all arguments
    return out;
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

std::vector<at::Tensor> RowSplit::gathered(const at::Tensor& own_rows,
                                           const std::optional<at::Tensor>& more) const {
  return Gather::apply(own_rows, more, &ranks_, most_, order_, own_indices_);
}

}  // namespace ood
