#include "ood/train/detector.h"

#include <nlohmann/json.hpp>

#include "ood/errors.h"
#include "ood/metrics/detection.h"
#include "ood/torch.h"
#include "ood/train/description.h"
#include "ood/train/evaluate.h"
#include "ood/train/trained.h"

namespace ood {

struct Detector::State {
  ModelDescription description;
  Model model;
  double threshold;
};

Detector::Detector() : state_(std::make_unique<State>()) {}
Detector::~Detector() = default;
Detector::Detector(Detector&&) noexcept = default;

Detector Detector::load(const std::filesystem::path& run, double tpr) {
  const auto path = std::filesystem::is_directory(run) ? run / "model.safetensors" : run;
  Trained trained = load_trained(path);
  if (!(tpr > 0 && tpr <= 1))
    throw UsageError("tpr: expected a share above 0, at most 1, got " + std::to_string(tpr));
  if (trained.validation_scores.empty())
    throw DataError(path.string() +
                    ": has no held-out scores to set a threshold by; train with `validation`");
  Detector d;
  d.state_->threshold = threshold_at(trained.validation_scores, tpr);
  d.state_->description = std::move(trained.description);
  d.state_->model = std::move(trained.model);
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
  a.scores = objective.score(d.score, output).to(torch::kDouble);
  a.accepted = a.scores.le(state_->threshold);
  return a;
}

double Detector::threshold() const { return state_->threshold; }
const std::vector<std::string>& Detector::class_names() const {
  return state_->description.class_names;
}
std::vector<std::int64_t> Detector::input_shape() const {
  const ModelDescription& d = state_->description;
  if (d.embeddings) return {d.channels};
  return {d.channels, d.height, d.width};
}

}  // namespace ood
