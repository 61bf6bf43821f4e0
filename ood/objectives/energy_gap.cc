#include "ood/objectives/energy_gap.h"

#include "ood/ops/row_terms.h"
#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(EnergyGap);

namespace nn::functional {

at::Tensor energy_gap_pairwise(const at::Tensor& logits_in, const at::Tensor& target_in,
                               const at::Tensor& logits_out, double lambda, double margin) {
  TORCH_CHECK_VALUE(logits_in.sym_sizes() == logits_out.sym_sizes(),
                    "energy_gap, pairwise: expected as many outliers as ID rows, got logits ",
                    logits_in.sym_sizes(), " and ", logits_out.sym_sizes());
  const auto ce = cross_entropy(logits_in, target_in);
  const auto pairs = (logits_out.logsumexp(1) - logits_in.logsumexp(1) + margin).relu();
  return ce + lambda * pairs.mean();
}

}  // namespace nn::functional
}  // namespace ood
