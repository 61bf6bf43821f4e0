#include "ood/scores/logits.h"

#include "ood/ops/by_type.h"

namespace ood {

std::int64_t class_dim(const at::Tensor& logits) { return logits.dim() < 2 ? 0 : 1; }
at::Tensor wide_logits(const at::Tensor& logits) { return ops::widened(logits); }

}  // namespace ood
