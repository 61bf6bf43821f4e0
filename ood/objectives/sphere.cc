#include "ood/objectives/sphere.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

namespace ood::sphere {

at::Tensor center_of(const at::Tensor& mean) {
  constexpr double kLeast = 0.1;
  return at::where(mean.abs().lt(kLeast), mean.sign() * kLeast, mean);
}

void begin(const at::Tensor& center, const Event& event) {
  at::Tensor sum;
  std::int64_t n = 0;
  event.pass([&](Tensors in) {
    TORCH_CHECK_VALUE(in[kEmbedding].dim() == 2 && in[kEmbedding].size(1) == center.size(0),
                      "init_center: expected embeddings [N, ", center.size(0), "], got ",
                      in[kEmbedding].sizes());
    const auto s = in[kEmbedding].to(at::kDouble).sum(0);
    sum = sum.defined() ? sum + s : s;
    n += in[kEmbedding].size(0);
  });
  TORCH_CHECK_VALUE(n > 0, "init_center: expected batches of embeddings, got none");
  TORCH_CHECK_VALUE(sum.isfinite().all().item<bool>(),
                    "init_center: expected finite embeddings, got NaN or infinity");
  center.copy_(center_of(sum / static_cast<double>(n)));
}

}  // namespace ood::sphere
