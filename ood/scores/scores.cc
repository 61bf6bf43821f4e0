#include "ood/scores/scores.h"

#include <ATen/ops/logsumexp.h>
#include <ATen/ops/softmax.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

namespace ood {

namespace {
std::int64_t class_dim(const at::Tensor& logits) { return logits.dim() < 2 ? 0 : 1; }

// Half types would round scores that differ to the same number.
at::Tensor wide(const at::Tensor& logits) {
  return at::isReducedFloatingType(logits.scalar_type()) ? logits.to(at::kFloat) : logits;
}
}  // namespace

at::Tensor msp_score(const at::Tensor& logits) {
  const auto dim = class_dim(logits);
  return wide(logits).softmax(dim).amax(dim).neg();
}
at::Tensor max_logit_score(const at::Tensor& logits) {
  return wide(logits).amax(class_dim(logits)).neg();
}
at::Tensor energy_score(const at::Tensor& logits) {
  return wide(logits).logsumexp(class_dim(logits)).neg();
}

const std::vector<Score>& scores() {
  static const std::vector<Score> all = {
      {"msp", "MSP", "-max softmax(x)",
       +[](const NetworkOutput& o) { return msp_score(o.logits); }},
      {"max_logit", "max logit", "-max x",
       +[](const NetworkOutput& o) { return max_logit_score(o.logits); }},
      {"energy", "energy", "-logsumexp(x)",
       +[](const NetworkOutput& o) { return energy_score(o.logits); }},
  };
  return all;
}

const Score& get_score(std::string_view name) {
  std::string known;
  for (const Score& s : scores()) {
    if (s.name == name) return s;
    known += (known.empty() ? "" : ", ") + std::string(s.name);
  }
  C10_THROW_ERROR(ValueError, c10::str("expected a score of ", known, ", got \"", name, "\""));
}

at::Tensor score_of(const Readout& readout, bool own, std::string_view name,
                    const at::Tensor& features) {
  if (own && readout.score.defined()) return readout.score;
  if (!readout.logits.defined()) return {};
  // In float32 the softmax of a sure network is exactly 1 for many inputs, which then tie.
  return get_score(name).compute({readout.logits.to(at::kDouble), features});
}

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def("msp_score(Tensor logits) -> Tensor", msp_score);
  m.def("max_logit_score(Tensor logits) -> Tensor", max_logit_score);
  m.def("energy_score(Tensor logits) -> Tensor", energy_score);
}

}  // namespace ood
