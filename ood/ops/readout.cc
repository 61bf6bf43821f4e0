#include "ood/ops/readout.h"

namespace ood {
namespace {

at::Tensor class_logits(const ObjectiveEntry& entry, const at::Tensor& outputs, bool background) {
  const auto further = entry.further_outputs + (entry.ood_is_last_class && !background ? 1 : 0);
  return further == 0 ? outputs : outputs.slice(1, 0, outputs.size(1) - further);
}

}  // namespace

Readout read_out(const ObjectiveEntry& entry, Numbers parameters, const NetworkOutput& output,
                 Tensors state) {
  TORCH_CHECK_VALUE(output.logits.defined(), entry.name,
                    ": expected what a network says, got no logits");
  Readout r;
  r.logits = class_logits(entry, output.logits, /*background=*/false);
  if (entry.slice.readout != nullptr) entry.slice.readout(parameters, output, state, r);
  if (!r.evidence.defined() && entry.classifies) r.evidence = r.logits;
  return r;
}

std::vector<at::Tensor> training_inputs(const ObjectiveEntry& entry, Numbers parameters,
                                        const NetworkOutput& output, const at::Tensor& target) {
  const SliceEntry& slice = entry.slice;
  std::vector<at::Tensor> in;
  for (const Input& i : slice.inputs)
    in.push_back(i.source == Input::kLogits ? class_logits(entry, output.logits, true).contiguous()
                 : i.source == Input::kFurther  ? output.logits.select(1, -1)
                 : i.source == Input::kFeatures ? output.features
                                                : output.logits);
  in.push_back(slice.training_target == nullptr ? target
                                                : slice.training_target(parameters, target));
  return in;
}

}  // namespace ood
