#include "ood/train/description.h"

#include <nlohmann/json.hpp>

#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;

// The one list of the fields.
template <class Description, class Visit>
void visit_fields(Description& d, const Visit& visit) {
  visit("model", d.model);
  visit("objective", d.objective);
  visit("parameters", d.parameters);
  visit("channels", d.channels);
  visit("height", d.height);
  visit("width", d.width);
  visit("class_names", d.class_names);
  visit("mean", d.mean);
  visit("deviation", d.deviation);
  visit("embeddings", d.embeddings);
  visit("seed", d.seed);
  visit("epochs", d.epochs);
}

}  // namespace

ModelDescription describe(const RunOptions& options, const Task& task) {
  ModelDescription d;
  d.model = options.model;
  // The features of a linear network are its inputs, and its embedding a projection of them.
  const auto& entry = get_objective(options.objective);
  const bool hidden = entry.trains_features || entry.embedding > 0;
  if (d.model == "auto") d.model = !task.embeddings ? "small-cnn" : hidden ? "mlp" : "linear";
  d.objective = options.objective;
  d.parameters = options.objective_parameters();
  d.channels = task.train.inputs.size(1);
  d.height = task.train.inputs.size(2);
  d.width = task.train.inputs.size(3);
  d.class_names = task.class_names;
  d.mean = task.mean;
  d.deviation = task.deviation;
  d.embeddings = task.embeddings;
  d.seed = options.seed;
  d.epochs = options.epochs;
  return d;
}

json to_json(const ModelDescription& description) {
  json j;
  visit_fields(description, [&](const char* key, const auto& v) { j[key] = v; });
  return j;
}

ModelDescription description_of(const json& j) {
  ModelDescription d;
  try {
    visit_fields(d, [&](const char* key, auto& v) { j.at(key).get_to(v); });
  } catch (const json::exception& e) {
    throw DataError(std::string("the model's description is damaged: ") + e.what());
  }
  return d;
}

Model make_model(const ModelDescription& d) {
  const ObjectiveEntry& entry = get_objective(d.objective);
  torch::manual_seed(static_cast<std::uint64_t>(d.seed));
  const auto classes = static_cast<std::int64_t>(d.class_names.size());
  const std::int64_t outputs =
      entry.embedding > 0 ? entry.embedding_width(classes)
                          : classes + (entry.ood_is_last_class ? 1 : 0) + entry.further_outputs;
  Model m;
  m.network = make_network(d.model, {d.channels, d.height, d.width, outputs, !entry.without_bias});
  m.objective = make_objective(
      entry, d.parameters,
      {classes, m.network->features(), d.epochs,
       [network = m.network](const at::Tensor& features) { return network->head(features); }});
  return m;
}

}  // namespace ood
