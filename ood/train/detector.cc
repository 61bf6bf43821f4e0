#include "ood/train/detector.h"

#include <limits>

#include "ood/torch.h"
#include "ood/train/description.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/run_files.h"
#include "ood/train/trained.h"

namespace ood {

struct Detector::State {
  Trained trained;
  at::Tensor held_out;  // undefined: accepts everything
  ThresholdRule rule;
  Threshold threshold{std::numeric_limits<double>::infinity(), 0, 0, 0, 0};
};

Detector::Detector() : state_(std::make_unique<State>()) {}
Detector::~Detector() = default;
Detector::Detector(Detector&&) noexcept = default;

Detector Detector::load(const std::filesystem::path& run, const AskedRule& rule,
                        const std::string& device) {
  const auto path = model_of(run);
  Detector d = of(path, device);
  const auto& held_out = d.state_->trained.validation_scores;
  d.state_->rule = threshold_rule(d.state_->trained.rule, held_out.size(), rule);
  d.state_->threshold = threshold_by(d.state_->rule, held_out);
  d.state_->held_out = torch::tensor(held_out, torch::kDouble);
  return d;
}

Detector Detector::without_threshold(const std::filesystem::path& run, const std::string& device) {
  return of(model_of(run), device);
}

Detector Detector::of(const std::filesystem::path& model, const std::string& device) {
  const auto there = open_device(device);
  Detector d;
  d.state_->trained = load_trained(model);
  compute_on(there, d.state_->trained);
  return d;
}

Detector::Answer Detector::operator()(const at::Tensor& inputs) const {
  const ModelDescription& d = state_->trained.description;
  const torch::NoGradGuard no_grad;
  const auto shape = input_shape();
  const auto type = d.embeddings ? at::kFloat : at::kByte;
  TORCH_CHECK_VALUE(inputs.dim() == static_cast<std::int64_t>(shape.size()) + 1 &&
                        inputs.sizes().slice(1) == c10::IntArrayRef(shape) &&
                        inputs.scalar_type() == type,
                    "Detector: expected inputs [N, ", c10::IntArrayRef(shape), "] of ", type,
                    ", got ", inputs.sizes(), " of ", inputs.scalar_type());
  const auto x = inputs.view({inputs.size(0), d.channels, d.height, d.width});
  const Trained& t = state_->trained;
  const auto& objective = *t.model.objective;
  auto output = run_network(*t.model.network, d.mean, d.deviation, x);
  const auto strange =
      output.logits.isfinite().all(1).logical_and(output.features.isfinite().all(1)).logical_not();
  for (at::Tensor* numbers : {&output.logits, &output.features})
    numbers->masked_fill_(strange.unsqueeze(1), 1);
  Answer a;
  const auto evidence = objective.readout(output).evidence;
  a.classes = evidence.defined() ? evidence.argmax(1) : torch::full({x.size(0)}, -1, torch::kLong);
  a.scores = t.scores.compute(t.scores.run_score(objective), objective, output).to(torch::kDouble);
  a.p_values = state_->held_out.defined() ? p_values(a.scores, state_->held_out)
                                          : torch::ones_like(a.scores);
  a.accepted = a.scores.le(state_->threshold.value).logical_and(strange.logical_not());
  a.classes.masked_fill_(strange, -1);
  for (at::Tensor* numbers : {&a.scores, &a.p_values})
    numbers->masked_fill_(strange, std::numeric_limits<double>::quiet_NaN());
  return a;
}

PictureReading Detector::reading() const {
  const ModelDescription& d = state_->trained.description;
  return {{d.height, d.width, d.crop}, kMaxPixels, parse_colour(d.alpha)};
}

at::Tensor Detector::prepared(const at::Tensor& pictures) const {
  const ModelDescription& d = state_->trained.description;
  TORCH_CHECK_VALUE(!d.embeddings, "Detector: prepares pictures, but the run takes embeddings");
  TORCH_CHECK_VALUE(
      pictures.defined() && pictures.dim() == 4 && pictures.scalar_type() == at::kByte &&
          pictures.size(2) > 0 && pictures.size(3) > 0,
      "Detector: expected pictures uint8 [N, C, H, W] to prepare, got ",
      pictures.defined() ? c10::str(pictures.sizes(), " of ", pictures.scalar_type()) : "none");
  return with_channels(brought_to(pictures, reading().size), d.channels);
}

const Threshold& Detector::threshold() const { return state_->threshold; }
const ThresholdRule& Detector::rule() const { return state_->rule; }
const std::vector<std::string>& Detector::class_names() const {
  return state_->trained.description.class_names;
}
std::vector<std::int64_t> Detector::input_shape() const {
  const ModelDescription& d = state_->trained.description;
  if (d.embeddings) return {d.channels};
  return {d.channels, d.height, d.width};
}

}  // namespace ood
