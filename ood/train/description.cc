#include "ood/train/description.h"

#include <cmath>

#include "ood/data/checksum.h"
#include "ood/data/json_field.h"
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
  visit("crop", d.crop);
  visit("alpha", d.alpha);
  visit("seed", d.seed);
  visit("epochs", d.epochs);
  visit("package", d.package);
}

}  // namespace

ModelDescription describe(const RunOptions& options, const Task& task) {
  ModelDescription d;
  d.model = options.model;
  // The features of a linear network are its inputs, and its embedding a projection of them. Where
  // nothing tells one kind of sample from another, a hidden layer learns to lose what would.
  const auto& entry = get_objective(options.objective);
  const bool hidden = entry.trains_features || (entry.embedding > 0 && !learns_one_kind(entry));
  if (is_network_file(d.model)) {
    d.file = open_network_file(d.model);
    d.model = d.file.kind;
    if (d.model == kPackageNetwork) d.package = checksum_of(d.file.path);
  }
  if (d.model == "auto") d.model = !task.embeddings ? "small-cnn" : hidden ? "mlp" : "linear";
  d.objective = options.objective;
  d.parameters = options.objective_parameters();
  d.channels = task.train.inputs.channels();
  d.height = task.train.inputs.height();
  d.width = task.train.inputs.width();
  d.class_names = task.class_names;
  d.mean = task.mean;
  d.deviation = task.deviation;
  d.embeddings = task.embeddings;
  d.crop = options.image_size > 0 && options.resize == "crop";
  d.alpha = options.alpha;
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
    visit_fields(d, [&](const char* key, auto& v) {
      // Models of before it was there have none.
      const std::string_view name(key);
      const bool later = name == "crop" || name == "alpha" || name == "package";
      if (!later || j.contains(key)) read_field(j, key, v, "the model's description is damaged: ");
    });
  } catch (const json::exception& e) {
    throw DataError(std::string("the model's description is damaged: ") + e.what());
  }
  return d;
}

void check_description(const ModelDescription& d, std::int64_t numbers) {
  const auto need = [](bool good, const std::string& expected) {
    if (!good) throw DataError("the model's description is damaged: expected " + expected);
  };
  constexpr std::int64_t kLongest = 1 << 16;
  const ObjectiveEntry* entry = find_objective(d.objective);
  need(entry != nullptr, "a known objective, got " + d.objective);
  const bool own = bool(d.file);
  need(own == is_own_network(d.model), "the file of its network");
  if (!own) check_network(d.model);
  need(d.mean.size() == static_cast<std::size_t>(d.channels) && d.deviation.size() == d.mean.size(),
       "a mean and a deviation a channel");
  // The first layer of every network has a number for each channel at least; a package has it.
  need(d.channels >= 1 &&
           (d.model == kPackageNetwork || d.channels <= std::max<std::int64_t>(numbers, 3)),
       "channels that fit the weights");
  need(d.height >= 1 && d.height <= kLongest && d.width >= 1 && d.width <= kLongest,
       "a size of pictures up to " + std::to_string(kLongest));
  constexpr std::int64_t kMostNumbers = 1 << 28;  // of an input that the network is tried with
  need(!own || d.channels * d.height * d.width <= kMostNumbers, "inputs of a size that can be");
  need(own || !takes_all_inputs(d.model) || d.channels * d.height * d.width <= numbers,
       "inputs that fit the weights");
  need(!d.embeddings || d.height * d.width == 1, "embeddings without height and width");
  need(!d.class_names.empty(), "names of classes");
  try {
    parse_colour(d.alpha);
  } catch (const UsageError&) {
    need(false, "a colour, got " + d.alpha);
  }
  for (std::size_t c = 0; c < d.mean.size(); ++c)
    need(std::isfinite(d.mean[c]) && std::isfinite(d.deviation[c]) && d.deviation[c] > 0,
         "finite means and deviations above 0");
  need(d.parameters.size() == entry->parameters.size(),
       std::to_string(entry->parameters.size()) + " parameters of " + d.objective);
  with_errors_as<DataError>(
      [&] { check_parameters(entry->name, entry->parameters, d.parameters); });
}

Model make_model(const ModelDescription& d, bool trains) {
  const ObjectiveEntry& entry = get_objective(d.objective);
  const auto classes = static_cast<std::int64_t>(d.class_names.size());
  const std::int64_t outputs =
      entry.embedding > 0 ? entry.embedding_width(classes)
                          : classes + (entry.ood_is_last_class ? 1 : 0) + entry.further_outputs;
  Model m;
  const NetworkShape shape{d.channels, d.height, d.width, outputs, !entry.without_bias};
  m.network = d.file ? make_network(d.file, shape, trains) : make_network(d.model, shape);
  const auto head = [network = m.network](const at::Tensor& z) { return network->head(z); };
  m.objective = std::make_shared<Objective>(
      entry, d.parameters, ObjectiveContext{classes, m.network->features(), d.epochs, head});
  return m;
}

}  // namespace ood
