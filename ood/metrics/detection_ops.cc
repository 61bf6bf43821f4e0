// The detection metrics as an op, for Python.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <stdexcept>

#include "ood/metrics/detection.h"
#include "ood/metrics/threshold.h"

namespace ood {
namespace {

std::vector<double> numbers(const at::Tensor& scores, const char* name) {
  const auto flat = scores.detach().to(at::kCPU, at::kDouble).contiguous();
  TORCH_CHECK_VALUE(flat.numel() > 0, "detection: expected scores in ", name, ", got none");
  TORCH_CHECK_VALUE(!flat.isnan().any().item<bool>(), "detection: expected numbers in ", name,
                    ", got NaN");
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "detection(Tensor id_scores, Tensor ood_scores) -> (float auroc, float aupr_in, float "
      "aupr_out, float fpr95)",
      [](const at::Tensor& id, const at::Tensor& ood) {
        const auto d = detection(numbers(id, "id_scores"), numbers(ood, "ood_scores"));
        return std::make_tuple(d.auroc, d.aupr_in, d.aupr_out, d.fpr95);
      });
  m.def("auroc_interval(Tensor id_scores, Tensor ood_scores, int seed) -> (float low, float high)",
        [](const at::Tensor& id, const at::Tensor& ood, std::int64_t seed) {
          const auto i = auroc_interval(numbers(id, "id_scores"), numbers(ood, "ood_scores"),
                                        static_cast<std::uint64_t>(seed));
          return std::make_tuple(i.low, i.high);
        });
  m.def(
      "threshold_for(Tensor held_out, float false_alarms, float confidence=0.95) -> (float value, "
      "int held_out, int above, float low, float high)",
      [](const at::Tensor& held_out, double false_alarms, double confidence) {
        try {
          const auto t = threshold_for(numbers(held_out, "held_out"), false_alarms, confidence);
          return std::make_tuple(t.value, t.held_out, t.above, t.low, t.high);
        } catch (const std::invalid_argument& e) {
          C10_THROW_ERROR(ValueError, e.what());
        }
      });
  m.def("threshold_at(Tensor scores, float share) -> float",
        [](const at::Tensor& scores, double share) {
          return threshold_at(numbers(scores, "scores"), share);
        });
}

}  // namespace ood
