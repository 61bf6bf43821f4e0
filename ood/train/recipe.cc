#include "ood/train/recipe.h"

#include <algorithm>
#include <tuple>

#include "ood/data/content.h"
#include "ood/data/files.h"
#include "ood/data/hash.h"
#include "ood/errors.h"
#include "ood/metrics/detection.h"
#include "ood/models/network_file.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"
#include "ood/torch.h"
#include "ood/train/batches.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/optimizer.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"
#include "ood/train/schedule.h"
#include "ood/train/step_inputs.h"
#include "ood/train/trained.h"

namespace ood {
namespace fs = std::filesystem;
namespace {

// Of an objective's ID data and outliers.
struct Medians {
  double id, outlier;
};

// The energies -logsumexp x of a network of this run after a short training with cross-entropy; of a
// run that it starts from as they are.
Medians energies_after_warmup(const RunOptions& options, const Task& task) {
  RunOptions o = options;
  o.objective = "cross_entropy";
  o.lr = 0;
  o.resolve();
  const auto d = describe(o, task);
  const Model model = initial_model(d, o);
  auto& network = *model.network;
  // What it starts from has been trained, if its last layer is that of these classes.
  const auto last = [](const Model& m) { return m.network->named_parameters()["fc.weight"]; };
  const bool warm = !(o.init.empty() && o.weights.empty()) &&
                    !last(model).equal(last(initial_model(d, o, /*filled=*/false)));
  const auto device = open_device(o.device);
  move(model, device, torch::kFloat);
  StepInputs inputs(o, task, 0);
  Optimizer optimizer(o, trainable(model), of_backbone(model));
  const auto total =
      warm ? 0 : std::clamp<std::int64_t>(inputs.steps_per_epoch() * o.epochs / 4, 20, 200);
  network.train();
  for (std::int64_t i = 0; i < total; ++i) {
    const auto step = inputs.at_step(i, device, torch::kFloat);
    optimizer.zero_grad();
    StepInputs::losses(*model.objective, network.forward(step.inputs), step).total.backward();
    if (o.clip > 0) optimizer.clip(o.clip);
    optimizer.step(cosine_lr(o.lr, o.warmup, i, total));
  }
  const auto energies = energies_of(network, task, held_out_seed(o), "the warm-up");
  const double id = threshold_at(energies.id, 0.5);
  return {id, energies.outliers.empty() ? id : threshold_at(energies.outliers, 0.5)};
}

void measure(RunOptions& options, const Task& task, const RunOptions* measured) {
  const ObjectiveEntry& entry = get_objective(options.objective);
  auto& values = options.parameters[options.objective];
  const auto wanted = [&](std::string_view name) {
    return !name.empty() && options.by_default.count(std::string(name)) > 0;
  };
  // Those of the objective that a configuration was written for; what has begun stays what it was.
  if (options.data_fingerprint.empty())
    std::erase_if(options.measured, [&](const auto& name) { return values.count(name) == 0; });
  if (!wanted(entry.id_energy) && !wanted(entry.outlier_energy)) return;
  if (measured != nullptr) {
    for (const auto& name : measured->measured)
      if (wanted(name) && measured->parameters.count(options.objective) > 0) {
        values[name] = measured->parameters.at(options.objective).at(name);
        options.measured.push_back(name);
      }
    return;
  }
  const auto e = energies_after_warmup(options, task);
  std::string text;
  const auto take = [&](std::string_view name, double energy) {
    if (!wanted(name)) return;
    values[std::string(name)] = energy;
    options.measured.emplace_back(name);
    text += (text.empty() ? "" : ", ") + std::string(name) + " " + short_number(energy);
  };
  // Hinges that start active on both sides where the outliers are the more certain ones.
  take(entry.id_energy, std::min(e.id, e.outlier));
  take(entry.outlier_energy, std::max(e.id, e.outlier));
  listener().tell("note: " + options.objective + ": " + text +
                  " by the energies after a warm-up with cross-entropy");
}

void fill_in_pretraining(RunOptions& options, const Task& task, std::int64_t enough) {
  if (options.pretrain > 0 && task.embeddings)
    throw UsageError("`pretrain`: expected pictures to give back, got embeddings");
  if (options.pretrain >= 0) return;
  const bool drawn =
      options.init.empty() && options.weights.empty() && !is_network_file(options.model);
  const bool wanted = get_objective(options.objective).pretrained && drawn && !task.embeddings &&
                      task.train.size() > 1;  // which a batch normalisation needs
  options.pretrain = wanted ? enough : 0;
}

void fill_in(RunOptions& options, const Task& task, const RunOptions* measured) {
  const auto n = task.train.size();
  if (options.batch_size == 0)
    options.batch_size =
        std::max<std::int64_t>(std::min(std::clamp<std::int64_t>(n / 16, 16, 128), n), 2);
  else if (options.batch_size > n && measured == nullptr)
    listener().warn("`batch-size` " + std::to_string(options.batch_size) + " is more than the " +
                    std::to_string(n) + " training samples; a step takes all of them");
  const auto steps = std::max<std::int64_t>(Batches::steps_per_epoch(task, options.batch_size), 1);
  const auto enough = std::clamp<std::int64_t>((500 + steps - 1) / steps, 3, 100);
  if (options.epochs == 0) options.epochs = enough;
  if (options.model == "auto") options.model = describe(options, task).model;
  fill_in_pretraining(options, task, enough);
  if (task.embeddings && !is_network_file(options.model) && !takes_all_inputs(options.model))
    throw UsageError("`model`: expected mlp, linear or a file of your own for embeddings, got " +
                     options.model);
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 36;
  const bool own = is_network_file(options.model);
  if (own || !options.weights.empty()) {
    const auto& file = own ? options.model : options.weights;
    const auto content = read_text(file, kLargest);
    const auto fingerprint = hexadecimal(fnv1a(content.data(), content.size()));
    if (!options.network_fingerprint.empty() && options.network_fingerprint != fingerprint)
      throw DataError(file + ": is another file than the one that the training was begun with");
    options.network_fingerprint = fingerprint;
  }
  const std::string weight(get_objective(options.objective).weight_of_classes);
  if (options.by_default.count(weight) > 0)
    options.parameters[options.objective][weight] /= static_cast<double>(task.classes());
  measure(options, task, measured);
}

void check_objective(const RunOptions& options, const Task& task) {
  const ObjectiveEntry& entry = get_objective(options.objective);
  if (task.classes() >= 2 || !entry.classifies) return;
  std::string those;
  for (const auto* e : objectives())
    if (!e->classifies) those += (those.empty() ? "" : ", ") + std::string(e->name);
  throw UsageError(options.objective +
                   ": expected at least two classes to learn, got 1; of one class learn " + those);
}

// What a run was trained with, as it is now.
Task learned_task(RunOptions options) {
  options.ood_data.clear();
  options.model = "auto";
  TaskOptions of_task = task_options(options);
  of_task.pictures.leave_known = true;
  return make_task(of_task);
}

// Of a run's folder, or of the one that its model file lies in, where a file of that name may be
// another program's: it does not begin as ours do.
std::optional<RunOptions> options_of(const fs::path& run) {
  const bool is_run = fs::is_directory(run);
  const auto config = (is_run ? run : run.parent_path()) / kConfigFile;
  // Without a run there is none, whatever lies in the current folder.
  if (run.empty() || is_network_file(run.string()) || !fs::exists(config)) return std::nullopt;
  if (!is_run && !is_config(config)) return std::nullopt;
  return read_config(config);
}

}  // namespace

void check_start(const RunOptions& options, const Task& task) {
  if (!is_network_file(options.model) && options.init.empty() && options.weights.empty()) return;
  const Unheard unheard;  // the training says it
  const auto description = describe(options, task);
  if (is_network_file(options.model)) make_model(description, !options.freeze);
  if (!options.init.empty() || !options.weights.empty())
    on_first(ranks(), [&] { initial_model(description, options, /*filled=*/true); });
}

std::optional<RunOptions> trained_with(const fs::path& run, const std::string& data) {
  auto options = options_of(run);
  std::error_code none;
  if (options && options->data != data && !fs::equivalent(options->data, data, none))
    return std::nullopt;
  return options;
}

bool was_learned(const fs::path& run, const fs::path& place) {
  const auto options = options_of(run);
  return options && learns_from(options->data, place);
}

LearnedInputs count_learned(const fs::path& run, const std::string& place) {
  LearnedInputs count;
  const auto options = options_of(run);
  if (!options) return count;
  try {
    const Unheard unheard;
    const Task task = learned_task(*options);
    if (!task.embeddings) return count;
    auto known = task.train.inputs.hashes();
    if (task.validation.size() > 0) {
      const auto held_out = task.validation.inputs.hashes();
      known.insert(known.end(), held_out.begin(), held_out.end());
    }
    std::sort(known.begin(), known.end());
    const auto given = load_inputs(place).hashes();
    count.all = static_cast<std::int64_t>(given.size());
    count.learned = count_among(given, known);
  } catch (const Error&) {  // data that are gone say nothing
  }
  return count;
}

void take_division(RunOptions& options) {
  if (options.split_seed >= 0) return;
  if (const auto before = trained_with(options.init, options.data))
    options.split_seed = division_seed(*before);
}

void warn_of_learned(const RunOptions& options, const Task& task) {
  const auto found = trained_with(options.init, options.data);
  if (!found || task.validation.size() == 0 || found->data_fingerprint == task.fingerprint) return;
  const std::string then = ", so that the threshold promises too much; keep its ";
  const auto unlike = [&](const auto& o) {
    return std::tie(o.image_size, o.resize, o.alpha, o.max_pixels);
  };
  // Samples are told apart, and divided, by their pixels.
  if (!task.embeddings && unlike(*found) != unlike(options)) {
    listener().warn(
        "most held-out samples may have been learned by the run of `init`, whose "
        "pictures were read otherwise" +
        then + "`image-size`, `resize` and `alpha`");
    return;
  }
  std::vector<std::uint64_t> learned;
  bool changed = false;
  try {
    const Unheard unheard;
    const Task then_learned = learned_task(*found);
    changed = then_learned.fingerprint != found->data_fingerprint;
    learned = then_learned.train.inputs.hashes();
  } catch (const Error&) {
    changed = true;
  }
  if (changed) {
    listener().warn(
        "the data have changed since the run of `init`, which may have learned what is "
        "held out now, so that the threshold promises too much");
    return;
  }
  std::sort(learned.begin(), learned.end());
  if (const auto seen = count_among(task.validation.inputs.hashes(), learned); seen > 0)
    listener().warn(std::to_string(seen) + " of " + std::to_string(task.validation.size()) +
                    " held-out samples were learned by the run of `init`" + then +
                    "`known`, `validation`, `limit-train` and division");
}

RunOptions completed(const RunOptions& given, const Task& task, const RunOptions* measured) {
  RunOptions options = given;
  options.resolve();
  options.make_absolute(/*outliers_are_path=*/!task.outliers_are_classes);
  check_objective(options, task);
  if (options.patience > 0 && task.validation.size() == 0)
    throw UsageError("`patience`: expected held-out data to stop by, got none; set `validation`");
  if (options.patience > 0 && !get_objective(options.objective).classifies && measured == nullptr)
    listener().warn("`patience`: " + options.objective +
                    " classifies nothing whose accuracy could stop growing; it trains all epochs");
  fill_in(options, task, measured);
  if (given.lr == 0 && options.optimizer == "sgd") {
    const ObjectiveEntry& entry = get_objective(options.objective);
    // A projection has nothing to lose but what tells others from its samples.
    const double suited = options.lr;
    if (options.model == "linear" && learns_one_kind(entry)) options.lr /= 10;
    // Units that have learned to give pictures back are not killed so soon.
    if (options.pretrain > 0 && entry.pretrained) options.lr *= 3;
    if (given.backbone_lr == 0) options.backbone_lr *= options.lr / suited;
  }
  const auto batches = Batches::steps_per_epoch(task, options.batch_size) * options.epochs;
  if (batches < options.accumulate)
    throw UsageError("`accumulate`: expected at most the " + std::to_string(batches) +
                     " batches of the training, got " + std::to_string(options.accumulate));
  if (options.sync_batchnorm && is_network_file(options.model) && !ranks().alone())
    throw UsageError(
        "`sync-batchnorm`: expected one of our networks, got a file, whose batch normalisation is "
        "its own");
  options.data_fingerprint = task.fingerprint;
  options.test_fingerprint = task.test_fingerprint;
  return options;
}

}  // namespace ood
