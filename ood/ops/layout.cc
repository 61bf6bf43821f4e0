#include "ood/ops/layout.h"

#include <ATen/ops/empty.h>

#include "ood/ops/kept_memory.h"

namespace ood::ops {

namespace {

// Without a list of the expected sizes: that is an allocation in every call.
bool has_one_dimension_less(const at::Tensor& target, const at::Tensor& logits) {
  if (target.dim() != logits.dim() - 1) return false;
  const auto of_target = target.sym_sizes(), of_logits = logits.sym_sizes();
  for (std::int64_t i = 0; i < target.dim(); ++i)
    if (of_target[i] != of_logits[i < class_dim(logits) ? i : i + 1]) return false;
  return true;
}

bool classes_side_by_side(const at::Tensor& logits) {
  return logits.dim() <= 2 || (logits.sym_stride(1) == 1 && logits.sym_size(1) != 1);
}

// What `make` gives of a tensor whose memory is in the order of its dimensions, as the logits are.
template <class Make>
at::Tensor in_layout_of(const at::Tensor& logits, const Make& make) {
  if (logits.dim() <= 2 || !classes_side_by_side(logits)) return make(logits);
  return make(logits.movedim(1, -1)).movedim(-1, 1);
}

}  // namespace

void check_inputs(const ObjectiveEntry& entry, const at::Tensor& logits, const at::Tensor& target,
                  const std::optional<at::Tensor>& extras,
                  const std::optional<at::Tensor>& weight) {
  TORCH_CHECK_VALUE(logits.dim() >= 1, entry.name,
                    ": expected logits [C], [B, C] or [B, C, ...], got a scalar");
  const auto expected = [&] {
    auto sizes = logits.sym_sizes().vec();
    sizes.erase(sizes.begin() + class_dim(logits));
    return sizes;
  };
  TORCH_CHECK_VALUE(has_one_dimension_less(target, logits), entry.name, ": for logits ",
                    logits.sym_sizes(), " expected target of shape ",
                    c10::SymIntArrayRef(expected()), ", got ", target.sym_sizes());
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

LaidOut lay_out(const at::Tensor& logits) {
  LaidOut out;
  Layout& l = out.layout;
  l.classes = logits.size(class_dim(logits));
  if (classes_side_by_side(logits)) {
    const auto last = logits.dim() <= 2 ? logits : logits.movedim(1, -1);
    auto rows = logits.dim() == 2 ? logits : last.reshape({logits.numel() / l.classes, l.classes});
    if (rows.stride(1) != 1 && l.classes != 1) rows = rows.contiguous();
    l.columns = false;
    l.outer = 1;
    l.inner = rows.size(0);
    l.outer_stride = 0;
    l.sample_stride = rows.stride(0);
    l.class_stride = 1;
    out.owner = rows;
    return out;
  }
  const std::int64_t images = logits.size(0);
  // A view where the pixels can be numbered with one stride.
  auto flat =
      logits.reshape({images, l.classes, images == 0 ? 0 : logits.numel() / images / l.classes});
  if (flat.size(2) > 1 && flat.stride(2) != 1) flat = flat.contiguous();
  l.columns = true;
  l.outer = images;
  l.inner = flat.size(2);
  l.outer_stride = flat.stride(0);
  l.sample_stride = 1;
  l.class_stride = flat.stride(1);
  out.owner = flat;
  return out;
}

at::Tensor empty_like_layout(const at::Tensor& logits) {
  return in_layout_of(logits, [](const at::Tensor& like) {
    return at::empty_symint(like.sym_sizes(), like.options());
  });
}

at::Tensor gradient_like(const at::Tensor& logits) {
  return in_layout_of(logits, [](const at::Tensor& like) {
    return empty_for_step(like.sizes(), like.scalar_type());
  });
}

}  // namespace ood::ops
