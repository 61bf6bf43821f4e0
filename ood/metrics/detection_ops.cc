// The detection metrics as an op, for Python.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <limits>
#include <stdexcept>

#include "ood/metrics/detection.h"
#include "ood/metrics/open_set.h"
#include "ood/metrics/threshold.h"
#include "ood/ops/direct_loss.h"

namespace ood {
namespace {

std::vector<double> numbers(const at::Tensor& scores, const char* who, const char* name) {
  const auto flat = scores.detach().to(at::kCPU, at::kDouble).contiguous();
  TORCH_CHECK_VALUE(flat.numel() > 0, who, ": expected scores in ", name, ", got none");
  TORCH_CHECK_VALUE(!flat.isnan().any().item<bool>(), who, ": expected numbers in ", name,
                    ", got NaN");
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// What is wrong with an argument as Python has it.
template <class Body>
auto with_value_errors(const Body& body) {
  try {
    return body();
  } catch (const std::invalid_argument& e) {
    C10_THROW_ERROR(ValueError, e.what());
  }
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ood, m) {
  m.def(
      "detection(Tensor id_scores, Tensor ood_scores) -> (float auroc, float aupr_in, float "
      "aupr_out, float fpr95, float fpr95_ood, float error)",
      [](const at::Tensor& id, const at::Tensor& ood) {
        const auto d = detection(numbers(id, "detection", "id_scores"),
                                 numbers(ood, "detection", "ood_scores"));
        return std::make_tuple(d.auroc, d.aupr_in, d.aupr_out, d.fpr95, d.fpr95_ood, d.error);
      });
  m.def(
      "auroc_difference(Tensor id_a, Tensor ood_a, Tensor id_b, Tensor ood_b, int seed) -> (float "
      "low, float high)",
      [](const at::Tensor& id_a, const at::Tensor& ood_a, const at::Tensor& id_b,
         const at::Tensor& ood_b, std::int64_t seed) {
        const auto i = with_value_errors([&] {
          return auroc_difference(numbers(id_a, "auroc_difference", "id_a"),
                                  numbers(ood_a, "auroc_difference", "ood_a"),
                                  numbers(id_b, "auroc_difference", "id_b"),
                                  numbers(ood_b, "auroc_difference", "ood_b"),
                                  static_cast<std::uint64_t>(seed));
        });
        return std::make_tuple(i.low, i.high);
      });
  m.def(
      "open_set(Tensor id_scores, Tensor correct, Tensor ood_scores) -> (float oscr, float aurc, "
      "float augrc, float ccr_1e3, float ccr_1e2, float ccr_1e1)",
      [](const at::Tensor& id, const at::Tensor& correct, const at::Tensor& ood) {
        TORCH_CHECK_VALUE(
            correct.eq(0).logical_or(correct.eq(1)).all().item<bool>(),
            "open_set: expected true or false for each ID sample, got other numbers of ",
            correct.scalar_type());
        const auto right = correct.to(at::kCPU, at::kByte).contiguous();
        const auto o = with_value_errors([&] {
          return open_set(
              numbers(id, "open_set", "id_scores"),
              {right.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(right.numel())},
              numbers(ood, "open_set", "ood_scores"));
        });
        return std::make_tuple(o.oscr, o.aurc, o.augrc, o.ccr_at_fpr[0], o.ccr_at_fpr[1],
                               o.ccr_at_fpr[2]);
      });
  m.def(
      "calibration(Tensor logits, Tensor labels, int bins=15) -> (float nll, float brier, float "
      "ece)",
      [](const at::Tensor& logits, const at::Tensor& labels_in, std::int64_t bins) {
        TORCH_CHECK_VALUE(
            logits.dim() == 2 && labels_in.dim() == 1 && labels_in.size(0) == logits.size(0) &&
                bins >= 1 && bins <= std::numeric_limits<int>::max(),
            "calibration: expected logits [N, K], labels [N] and from 1 to 2^31 - 1 bins, got ",
            logits.sizes(), ", ", labels_in.sizes(), " and ", bins);
        const auto log_p = numbers(logits.to(at::kDouble).log_softmax(-1), "calibration", "logits");
        const auto labels = ops::class_labels(labels_in, "calibration").cpu().contiguous();
        const auto c = with_value_errors([&] {
          return calibration(
              log_p,
              {labels.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(labels.numel())},
              static_cast<int>(bins));
        });
        return std::make_tuple(c.nll, c.brier, c.ece);
      });
  m.def("auroc_interval(Tensor id_scores, Tensor ood_scores, int seed) -> (float low, float high)",
        [](const at::Tensor& id, const at::Tensor& ood, std::int64_t seed) {
          const auto i = auroc_interval(numbers(id, "auroc_interval", "id_scores"),
                                        numbers(ood, "auroc_interval", "ood_scores"),
                                        static_cast<std::uint64_t>(seed));
          return std::make_tuple(i.low, i.high);
        });
  m.def(
      "threshold_for(Tensor held_out, float false_alarms, float confidence=0.95) -> (float value, "
      "int held_out, int above, float low, float high)",
      [](const at::Tensor& held_out, double false_alarms, double confidence) {
        const auto t = with_value_errors([&] {
          return threshold_for(numbers(held_out, "threshold_for", "held_out"), false_alarms,
                               confidence);
        });
        return std::make_tuple(t.value, t.held_out, t.above, t.low, t.high);
      });
  m.def("threshold_at(Tensor scores, float share) -> float",
        [](const at::Tensor& scores, double share) {
          return with_value_errors(
              [&] { return threshold_at(numbers(scores, "threshold_at", "scores"), share); });
        });
}

}  // namespace ood
