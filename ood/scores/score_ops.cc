// Every score by name as ops: what ood.scores and the runs of Python are made of.
#include <torch/library.h>

#include "ood/ops/by_type.h"
#include "ood/scores/fit_data.h"
#include "ood/scores/logits.h"
#include "ood/scores/score.h"

namespace ood {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

// Half types as float32, on the CPU; undefined where not given.
Tensor given(const Optional& t) { return t ? ops::widened(t->detach().to(at::kCPU)) : Tensor(); }

// The state of one score after that of another; what several need is computed once.
std::vector<Tensor> fit_op(const std::vector<std::string>& scores, Numbers parameters,
                           const Optional& logits, const Optional& features, const Optional& labels,
                           const Optional& weight, const Optional& bias,
                           const Optional& held_out_logits, const Optional& held_out_labels) {
  FitData d;
  d.logits = given(logits);
  d.features = given(features);
  d.labels = given(labels);
  d.weight = given(weight);
  d.bias = given(bias);
  d.held_out_logits = given(held_out_logits);
  d.held_out_labels = given(held_out_labels);
  std::vector<Tensor> all;
  for (const auto& name : scores) {
    const ScoreEntry& entry = get_score(name);
    const auto count = entry.parameters.size();
    TORCH_CHECK_VALUE(parameters.size() >= count, name, ": expected ", count, " parameters, got ",
                      parameters.size());
    for (auto& t : fit_score(entry, parameters.slice(0, count), d)) all.push_back(std::move(t));
    parameters = parameters.slice(count);
  }
  return all;
}

Tensor compute_op(std::string_view score, Numbers parameters, const Optional& logits,
                  const Optional& features, Tensors state) {
  return compute_score(get_score(score), parameters, {given(logits), given(features)}, state);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("scores_json() -> str", [] { return scores_json(); });
  m.def(
      "score_fit(str[] scores, float[] parameters, Tensor? logits=None, Tensor? features=None, "
      "Tensor? labels=None, Tensor? weight=None, Tensor? bias=None, Tensor? held_out_logits=None, "
      "Tensor? held_out_labels=None) -> Tensor[]",
      fit_op);
  m.def(
      "score_compute(str score, float[] parameters, Tensor? logits, Tensor? features, "
      "Tensor[] state) -> Tensor",
      compute_op);
  m.def("msp_score(Tensor logits) -> Tensor", msp_score);
  m.def("max_logit_score(Tensor logits) -> Tensor", max_logit_score);
  m.def("energy_score(Tensor logits) -> Tensor", energy_score);
  m.def("entropy_score(Tensor logits) -> Tensor", entropy_score);
  m.def("margin_score(Tensor logits) -> Tensor", margin_score);
}

}  // namespace ood
