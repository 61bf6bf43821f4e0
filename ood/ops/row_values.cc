#include "ood/ops/row_values.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

namespace ood::ops {

Losses add_up_terms(const std::vector<Term>& parts, std::size_t terms, Reduction reduction,
                    const TermOptions& options) {
  std::vector<at::Tensor> values(terms);
  at::Tensor rows;
  const auto add = [](at::Tensor& to, const at::Tensor& t) { to = to.defined() ? to + t : t; };
  for (const Term& part : parts) {
    if (!part.taken.defined()) {
      TORCH_CHECK_VALUE(!options.weight.defined() && !options.whole_batch, options.who,
                        ": is in part a function of the whole batch; expected no weight of rows "
                        "and the default balance");
      add(values[part.index], part.values);
      continue;
    }
    const auto taken = options.keep.defined() ? part.taken.logical_and(options.keep) : part.taken;
    const auto counted = options.weight.defined() ? part.values * options.weight : part.values;
    const auto kept = at::where(taken, counted, at::zeros_like(counted));
    if (reduction == Reduction::kNone) {
      add(rows, kept);
    } else if (reduction == Reduction::kSum) {
      add(values[part.index], kept.sum());
    } else {
      const auto count = !options.whole_batch     ? taken
                         : options.keep.defined() ? options.keep
                                                  : at::ones_like(taken);
      add(values[part.index], kept.sum() / count.sum().clamp_min(1).to(kept.scalar_type()));
    }
  }
  if (reduction == Reduction::kNone) {
    TORCH_CHECK_VALUE(rows.defined(), options.who,
                      ": is a function of the whole batch; expected reduction mean, got none");
    return {rows, {}};
  }
  for (at::Tensor& v : values)
    if (!v.defined()) v = at::zeros({}, parts.front().values.options());
  const auto all = at::stack(values);
  return {all.sum(), all.detach()};
}

}  // namespace ood::ops
