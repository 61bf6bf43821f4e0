#include "ood/ops/layout.h"

#include <ATen/ops/empty.h>

namespace ood::ops {

void check_inputs(const ObjectiveEntry& entry, const at::Tensor& logits, const at::Tensor& target,
                  const std::optional<at::Tensor>& extras,
                  const std::optional<at::Tensor>& weight) {
  TORCH_CHECK_VALUE(logits.dim() >= 1, entry.name,
                    ": expected logits [C], [B, C] or [B, C, ...], got a scalar");
  const auto expected = [&] {
    auto sizes = logits.sym_sizes().vec();
    sizes.erase(sizes.begin() + class_dim(logits));
    return sizes;
  }();
  TORCH_CHECK_VALUE(target.sym_sizes() == c10::SymIntArrayRef(expected), entry.name,
                    ": for logits ", logits.sym_sizes(), " expected target of shape ",
                    c10::SymIntArrayRef(expected), ", got ", target.sym_sizes());
  TORCH_CHECK_VALUE(logits.sym_size(class_dim(logits)) >= 1, entry.name,
                    ": expected at least one class, got logits ", logits.sym_sizes());
  if (weight.has_value() && weight->defined())
    TORCH_CHECK_VALUE(weight->sym_sizes() == target.sym_sizes(), entry.name,
                      ": expected weight of the target's shape ", target.sym_sizes(), ", got ",
                      weight->sym_sizes());
  const std::size_t wanted = entry.extras.size();
  const bool given = extras.has_value() && extras->defined();
  TORCH_CHECK_VALUE(given == (wanted > 0), entry.name, ": expected ", wanted, " extra inputs, got ",
                    given ? "some" : "none");
  if (given) {
    auto shape = target.sym_sizes().vec();
    shape.insert(shape.begin(), static_cast<std::int64_t>(wanted));
    TORCH_CHECK_VALUE(extras->sym_sizes() == c10::SymIntArrayRef(shape), entry.name,
                      ": expected extras of shape ", c10::SymIntArrayRef(shape), ", got ",
                      extras->sym_sizes());
  }
}

at::Tensor as_rows(const at::Tensor& logits) {
  const std::int64_t classes = logits.size(class_dim(logits));
  const auto last = logits.dim() <= 2 ? logits : logits.movedim(1, -1);
  const auto rows = logits.dim() == 2 ? logits : last.reshape({logits.numel() / classes, classes});
  return rows.stride(1) == 1 || classes == 1 ? rows : rows.contiguous();
}

NewRows empty_rows_like(const at::Tensor& logits) {
  const std::int64_t classes = logits.size(class_dim(logits));
  auto rows = at::empty({logits.numel() / classes, classes}, logits.options());
  if (logits.dim() == 2) return {rows, rows};
  if (logits.dim() == 1) return {rows, rows.view({classes})};
  auto sizes = logits.sizes().vec();
  sizes.erase(sizes.begin() + 1);
  sizes.push_back(classes);
  return {rows, rows.view(sizes).movedim(-1, 1)};
}

}  // namespace ood::ops
