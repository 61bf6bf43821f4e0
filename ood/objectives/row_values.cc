#include "ood/objectives/row_values.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

namespace ood {

at::Tensor reduce_rows(const at::Tensor& values, const at::Tensor& taken,
                       std::string_view reduction) {
  TORCH_CHECK_VALUE(reduction == "none" || reduction == "mean" || reduction == "sum",
                    "expected reduction none, mean or sum, got ", reduction);
  const auto rows = at::where(taken, values, at::zeros_like(values));
  if (reduction == "none") return rows;
  if (reduction == "sum") return rows.sum();
  return rows.sum() / taken.sum().clamp_min(1).to(values.scalar_type());
}

double reduction_is_sum(std::string_view reduction) {
  TORCH_CHECK_VALUE(reduction == "mean" || reduction == "sum",
                    "expected reduction none, mean or sum, got ", reduction);
  return reduction == "sum";
}

}  // namespace ood
