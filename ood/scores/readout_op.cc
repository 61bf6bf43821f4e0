// The readout of any objective and its score as an op: what Python's runs are made of.
#include <torch/library.h>

#include "ood/ops/objective_loss.h"
#include "ood/ops/readout.h"
#include "ood/scores/score.h"

namespace ood {
namespace {

using at::Tensor;

// Evidence, logits and score; a tensor without dimensions where there is none.
std::tuple<Tensor, Tensor, Tensor> readout_op(std::string_view objective, Numbers parameters,
                                              const Tensor& logits, const Tensor& features,
                                              Tensors state) {
  const ObjectiveEntry& entry = get_objective(objective);
  check_counts(entry, parameters, entry.slice.inputs.size() + 1, state.size());
  const auto r = read_out(entry, parameters, {logits, features}, state);
  const auto or_none = [&](const Tensor& t) {
    return t.defined() ? t : at::empty({}, logits.options());
  };
  return {or_none(r.evidence), or_none(r.logits), or_none(own_score(r, entry.score, features))};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "objective_readout(str objective, float[] parameters, Tensor logits, Tensor features, "
      "Tensor[] state) -> (Tensor evidence, Tensor logits, Tensor score)",
      readout_op, {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(ood, FuncTorchBatched, m) { m.impl("objective_readout", readout_op); }

}  // namespace ood
