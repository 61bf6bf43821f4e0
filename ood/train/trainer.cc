#include "ood/train/trainer.h"

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ood/augment/mixing.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/objectives/registry.h"
#include "ood/torch.h"
#include "ood/train/batches.h"
#include "ood/train/evaluate.h"
#include "ood/train/objective.h"
#include "ood/train/progress.h"
#include "ood/train/safetensors.h"
#include "ood/train/schedule.h"
#include "ood/version.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr std::size_t kCurvePoints = 200;

// metrics.jsonl: one object a line, written at once so that a crash loses nothing.
class MetricsLog {
 public:
  explicit MetricsLog(const fs::path& path) : path_(path), out_(path, std::ios::trunc) { check(); }
  void write(const json& object) {
    out_ << object.dump() << '\n' << std::flush;
    check();
  }

 private:
  void check() const {
    if (!out_) throw DataError(path_.string() + ": cannot be written");
  }
  fs::path path_;
  std::ofstream out_;
};

// Loss and terms by step for the report, thinned to means over equal stretches.
class Curves {
 public:
  void add(double loss, const Losses& losses) {
    add_to("loss", loss);
    for (const auto& [name, value] : losses.terms) add_to(name, value.item<double>());
  }
  json thinned() const {
    json out = json::object();
    for (const auto& [name, values] : series_) {
      const std::size_t points = std::min(values.size(), kCurvePoints);
      json points_of = json::array();
      for (std::size_t p = 0; p < points; ++p) {
        const std::size_t begin = p * values.size() / points,
                          end = (p + 1) * values.size() / points;
        double sum = 0;
        for (std::size_t i = begin; i < end; ++i) sum += values[i];
        points_of.push_back({(begin + end + 1) / 2, sum / static_cast<double>(end - begin)});
      }
      out[name] = points_of;
    }
    return out;
  }

 private:
  void add_to(const std::string& name, double value) {
    for (auto& [n, values] : series_)
      if (n == name) {
        values.push_back(value);
        return;
      }
    series_.push_back({name, {value}});
  }
  std::vector<std::pair<std::string, std::vector<double>>> series_;
};

std::vector<at::Tensor> trainable(const torch::nn::Module& network,
                                  const torch::nn::Module& objective) {
  auto all = network.parameters();
  for (const auto& p : objective.parameters()) all.push_back(p);
  return all;
}

// Every tensor of a run by the name under which it is stored; the objective's own are prefixed.
template <class Visit>
void for_each_tensor(const Classifier& network, const Objective& objective, const Visit& visit) {
  const auto of = [&](const torch::nn::Module& module, const std::string& prefix) {
    for (const auto& p : module.named_parameters()) visit(prefix + p.key(), p.value());
    for (const auto& b : module.named_buffers()) visit(prefix + b.key(), b.value());
  };
  of(network, "");
  of(objective, "objective.");
}

void save_model(const fs::path& path, const Classifier& network, const Objective& objective,
                const RunOptions& options) {
  TensorFile file;
  for_each_tensor(network, objective, [&](const std::string& name, const at::Tensor& t) {
    file.tensors.emplace_back(name, t);
  });
  file.metadata = {{"format", "ood-run"},
                   {"version", kVersion},
                   {"model", options.model},
                   {"objective", options.objective}};
  write_safetensors(path, file);
}

void load_model(const fs::path& path, const Classifier& network, const Objective& objective) {
  const TensorFile file = read_safetensors(path);
  const torch::NoGradGuard no_grad;
  for_each_tensor(network, objective, [&](const std::string& name, at::Tensor to) {
    const auto from = file.find(name);
    if (!from.defined())
      throw DataError(path.string() + ": expected tensor " + name + ", found none");
    if (from.sizes() != to.sizes())
      throw DataError(path.string() + ": tensor " + name + " has another shape than the network's");
    to.copy_(from);
  });
}

// The other targets of a mixed batch, and the share of the first ones.
struct OtherTarget {
  at::Tensor target;
  double lambda;
};

// Mixes the ID samples of a batch, the first `id` ones, among themselves; outliers stay outliers.
std::optional<OtherTarget> mix(const RunOptions& options, Batches::Batch& batch, std::int64_t id,
                               std::int64_t step) {
  if (options.mixup <= 0 && options.cutmix <= 0) return std::nullopt;
  RandomStream random(
      static_cast<std::uint64_t>(options.seed),
      (static_cast<std::uint64_t>(Purpose::kMixing) << 48) + static_cast<std::uint64_t>(step));
  const auto x = batch.inputs.slice(0, 0, id), y = batch.target.slice(0, 0, id);
  const Mixed mixed = options.mixup > 0 ? mixup_data(x, y, options.mixup, random)
                                        : cutmix(x, y, options.cutmix, 1, random);
  const auto format = at::MemoryFormat::ChannelsLast;
  batch.inputs = torch::cat({mixed.inputs, batch.inputs.slice(0, id)}).contiguous(format);
  return OtherTarget{torch::cat({mixed.target_b, batch.target.slice(0, id)}), mixed.lambda};
}

Losses between(const Losses& a, const Losses& b, double lambda) {
  Losses out;
  out.total = lambda * a.total + (1 - lambda) * b.total;
  for (std::size_t t = 0; t < a.terms.size(); ++t)
    out.terms.emplace_back(a.terms[t].first,
                           lambda * a.terms[t].second + (1 - lambda) * b.terms[t].second);
  return out;
}

}  // namespace

TaskOptions task_options(const RunOptions& o) {
  TaskOptions t;
  t.data = o.data;
  t.known = parse_classes("--known", o.known);
  t.outliers = parse_classes("--outliers", o.outliers);
  t.unknown = parse_classes("--unknown", o.unknown);
  for (const auto& item : o.ood_data) {
    const auto equals = item.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == item.size())
      throw UsageError("--ood-data: expected NAME=PATH, got \"" + item + "\"");
    t.ood_data.emplace_back(item.substr(0, equals), item.substr(equals + 1));
  }
  t.validation = o.validation;
  t.limit_train = o.limit_train;
  t.limit_test = o.limit_test;
  t.seed = static_cast<std::uint64_t>(o.seed);
  return t;
}

Model new_model(const RunOptions& options, const Task& task) {
  const ObjectiveEntry& entry = get_objective(options.objective);
  torch::manual_seed(static_cast<std::uint64_t>(options.seed));
  const std::int64_t outputs =
      entry.embedding > 0 ? entry.embedding : task.classes() + (entry.ood_is_last_class ? 1 : 0);
  Model m;
  m.network =
      make_network(options.model, {task.train.inputs.size(1), task.train.inputs.size(2),
                                   task.train.inputs.size(3), outputs, !entry.without_bias});
  m.objective = make_objective(entry, options.objective_parameters(),
                               {task.classes(), m.network->features()});
  return m;
}

void make_run_folder(const fs::path& out) {
  std::error_code error;
  fs::create_directories(out, error);
  if (error) throw DataError(out.string() + ": cannot be created: " + error.message());
}

json results_header(const RunOptions& options, const Task& task) {
  json h;
  h["version"] = kVersion;
  h["data"] = options.data;
  h["known"] = task.class_names;
  h["outliers"] = task.outlier_names;
  h["unknown"] = task.unknown_names;
  h["train_samples"] = task.train.size();
  h["outlier_samples"] = task.train_outliers.size();
  h["config"] = to_toml(options);
  return h;
}

json train_run(const RunOptions& given, const Task& task, const fs::path& out) {
  RunOptions options = given;
  options.resolve();
  const ObjectiveEntry& entry = get_objective(options.objective);
  make_run_folder(out);
  write_file(out / "config.toml", to_toml(options));
  MetricsLog log(out / "metrics.jsonl");

  const auto [network, objective] = new_model(options, task);
  std::int64_t outliers = 0;
  if (entry.uses_ood && task.train_outliers.size() > 0)
    outliers = std::llround(options.outlier_ratio * static_cast<double>(options.batch_size));
  if (entry.uses_ood && outliers == 0)
    std::fprintf(
        stderr,
        "warning: %s learns from outliers and has none; set --outliers CLASSES, or it trains "
        "on ID data alone\n",
        options.objective.c_str());
  if ((options.mixup > 0 || options.cutmix > 0) && !entry.classifies)
    throw UsageError("--mixup, --cutmix: expected an objective that uses labels, got " +
                     options.objective);
  Batches batches(task, options.batch_size, outliers, static_cast<std::uint64_t>(options.seed));
  torch::optim::SGD optimizer(trainable(*network, *objective),
                              torch::optim::SGDOptions(options.lr)
                                  .momentum(options.momentum)
                                  .nesterov(options.momentum > 0)
                                  .weight_decay(options.weight_decay));

  const std::int64_t total = batches.steps_per_epoch() * options.epochs;
  Progress progress(options.objective, total);
  Curves curves;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  // All ID training data through the network as it is, for objectives with centers.
  const TrainingPass pass = [&, &network = network](const auto& visit) {
    const torch::NoGradGuard no_grad;
    network->eval();
    for (std::int64_t i = 0; i < task.train.size(); i += 500) {
      const std::int64_t end = std::min<std::int64_t>(i + 500, task.train.size());
      visit(network->forward(normalised(task, task.train.inputs.slice(0, i, end))),
            task.train.labels.slice(0, i, end));
    }
    network->train();
  };
  objective->begin(pass);
  network->train();
  objective->train();
  double epoch_loss = 0;
  for (std::int64_t step = 0; step < total; ++step) {
    const std::int64_t epoch = step / batches.steps_per_epoch();
    const double lr = cosine_lr(options.lr, options.warmup, step, total);
    static_cast<torch::optim::SGDOptions&>(optimizer.param_groups()[0].options()).lr(lr);
    auto batch = batches.at_step(step);
    const auto mixed = mix(options, batch, batch.target.size(0) - outliers, step);
    // ID samples and outliers in one forward: batch normalisation must see the mixture.
    const auto output = network->forward(batch.inputs);
    const Losses losses = mixed ? between(objective->forward(output, batch.target),
                                          objective->forward(output, mixed->target), mixed->lambda)
                                : objective->forward(output, batch.target);
    const double loss = losses.total.item<double>();
    json line = {{"step", step + 1}, {"epoch", epoch + 1}, {"loss", nullptr}};
    if (std::isfinite(loss)) line["loss"] = loss;
    for (const auto& [name, value] : losses.terms) line[name] = value.item<double>();
    line["lr"] = lr;
    log.write(line);
    if (!std::isfinite(loss))
      throw DivergedError(options.objective + ": the loss is " +
                          (std::isnan(loss) ? "NaN" : "infinite") + " at step " +
                          std::to_string(step + 1) + " of " + std::to_string(total) +
                          "; expected a number; try a smaller --lr (now " +
                          std::to_string(options.lr) + "). The run so far is in " + out.string());
    curves.add(loss, losses);
    epoch_loss += loss;
    optimizer.zero_grad();
    losses.total.backward();
    optimizer.step();
    objective->after_step(
        output, batch.target,
        static_cast<double>(step + 1) / static_cast<double>(batches.steps_per_epoch()));
    char note[48];
    std::snprintf(note, sizeof note, "loss %.3f", loss);
    progress.update(step + 1, note);
    if ((step + 1) % batches.steps_per_epoch() == 0) {
      json end = {{"epoch", epoch + 1},
                  {"train_loss", epoch_loss / static_cast<double>(batches.steps_per_epoch())}};
      if (task.validation.size() > 0) {
        const torch::NoGradGuard no_grad;
        const auto evidence =
            objective->class_evidence(run_network(*network, task, task.validation));
        objective->train();
        if (evidence.defined())
          end["validation_accuracy"] = accuracy(evidence, task.validation.labels);
      }
      end["seconds"] = elapsed();
      log.write(end);
      epoch_loss = 0;
    }
  }
  objective->finish(pass);
  objective->eval();
  const double seconds = elapsed();
  save_model(out / "model.safetensors", *network, *objective, options);

  json result;
  result["objective"] = options.objective;
  result["score"] = entry.score;
  result["parameters"] = options.parameters.at(options.objective);
  result["seconds"] = seconds;
  result["steps"] = total;
  result.update(evaluate(*network, *objective, task, std::string(entry.score),
                         static_cast<std::uint64_t>(options.seed)));
  result["training"] = curves.thinned();
  json file = results_header(options, task);
  file["objectives"] = {result};
  write_file(out / "results.json", file.dump(1) + "\n");
  return result;
}

LoadedRun load_run(const fs::path& folder, const std::function<void(RunOptions&)>& change) {
  if (!fs::exists(folder / "config.toml"))
    throw DataError(folder.string() + ": expected a run folder with config.toml, found none");
  LoadedRun run;
  run.options = read_config(folder / "config.toml");
  change(run.options);
  run.options.resolve();
  run.task = make_task(task_options(run.options));
  const auto [network, objective] = new_model(run.options, run.task);
  run.network = network;
  run.objective = objective;
  objective->eval();
  load_model(folder / "model.safetensors", *network, *objective);
  return run;
}

}  // namespace ood
