#include "ood/train/detector.h"

#include <nlohmann/json.hpp>

#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/torch.h"
#include "ood/train/description.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/run_files.h"
#include "ood/train/trained.h"

namespace ood {

struct Detector::State {
  ModelDescription description;
  Model model;
  FittedScores scores;
  at::Tensor held_out;
  ThresholdRule rule;
  Threshold threshold;
};

Detector::Detector() : state_(std::make_unique<State>()) {}
Detector::~Detector() = default;
Detector::Detector(Detector&&) noexcept = default;

Detector Detector::load(const std::filesystem::path& run, const AskedRule& rule,
                        const std::string& device) {
  const auto there = open_device(device);
  const auto path = model_of(run);
  Trained trained = load_trained(path);
  compute_on(there, trained);
  Detector d;
  d.state_->rule = threshold_rule(path.parent_path(), trained.validation_scores.size(), rule);
  d.state_->threshold = threshold_by(d.state_->rule, trained.validation_scores);
  d.state_->held_out = torch::tensor(trained.validation_scores, torch::kDouble);
  d.state_->description = std::move(trained.description);
  d.state_->model = std::move(trained.model);
  d.state_->scores = std::move(trained.scores);
  return d;
}

Detector::Answer Detector::operator()(const at::Tensor& inputs) const {
  const ModelDescription& d = state_->description;
  const torch::NoGradGuard no_grad;
  const auto shape = input_shape();
  const auto type = d.embeddings ? at::kFloat : at::kByte;
  TORCH_CHECK_VALUE(inputs.dim() == static_cast<std::int64_t>(shape.size()) + 1 &&
                        inputs.sizes().slice(1) == c10::IntArrayRef(shape) &&
                        inputs.scalar_type() == type,
                    "Detector: expected inputs [N, ", c10::IntArrayRef(shape), "] of ", type,
                    ", got ", inputs.sizes(), " of ", inputs.scalar_type());
  const auto x = inputs.view({inputs.size(0), d.channels, d.height, d.width});
  const auto output = run_network(*state_->model.network, d.mean, d.deviation, x);
  Answer a;
  const auto& objective = *state_->model.objective;
  const auto evidence = objective.readout(output).evidence;
  a.classes = evidence.defined() ? evidence.argmax(1) : torch::full({x.size(0)}, -1, torch::kLong);
  const FittedScores& scores = state_->scores;
  a.scores = scores.compute(scores.default_score(objective), objective, output).to(torch::kDouble);
  a.p_values = p_values(a.scores, state_->held_out);
  a.accepted = a.scores.le(state_->threshold.value);
  return a;
}

PictureReading Detector::reading() const {
  const ModelDescription& d = state_->description;
  return {{d.height, d.width, d.crop}, kMaxPixels, parse_colour(d.alpha)};
}

at::Tensor Detector::prepared(const at::Tensor& pictures) const {
  const ModelDescription& d = state_->description;
  return with_channels(brought_to(pictures, reading().size), d.channels);
}

const Threshold& Detector::threshold() const { return state_->threshold; }
const ThresholdRule& Detector::rule() const { return state_->rule; }
const std::vector<std::string>& Detector::class_names() const {
  return state_->description.class_names;
}
std::vector<std::int64_t> Detector::input_shape() const {
  const ModelDescription& d = state_->description;
  if (d.embeddings) return {d.channels};
  return {d.channels, d.height, d.width};
}

}  // namespace ood
