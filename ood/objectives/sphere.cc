#include "ood/objectives/sphere.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

namespace ood::sphere {

void begin(const at::Tensor& center, const Event& event) {
  at::Tensor sum;
  std::int64_t n = 0;
  event.pass([&](Tensors in) {
    TORCH_CHECK_VALUE(in[kEmbedding].dim() == 2 && in[kEmbedding].size(1) == center.size(0),
                      "init_center: expected embeddings [N, ", center.size(0), "], got ",
                      in[kEmbedding].sizes());
    const bool labelled = in.size() > kLabels;
    TORCH_CHECK_VALUE(!labelled || in[kLabels].sizes() == in[kEmbedding].sizes().slice(0, 1),
                      "init_center: expected labels [", in[kEmbedding].size(0), "], got ",
                      in[kLabels].sizes());
    const auto x = labelled ? in[kEmbedding].index_select(0, in[kLabels].ge(0).nonzero().squeeze(1))
                            : in[kEmbedding];
    const auto s = x.to(at::kDouble).sum(0);
    sum = sum.defined() ? sum + s : s;
    n += x.size(0);
  });
  TORCH_CHECK_VALUE(n > 0, "init_center: expected batches of embeddings, got none");
  TORCH_CHECK_VALUE(sum.isfinite().all().item<bool>(),
                    "init_center: expected finite embeddings, got NaN or infinity");
  constexpr double kLeast = 0.1;
  const auto mean = sum / static_cast<double>(n);
  center.copy_(at::where(mean.abs().lt(kLeast), mean.sign() * kLeast, mean));
}

}  // namespace ood::sphere
