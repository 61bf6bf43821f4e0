#include "ood/train/trainer.h"

#include <ATen/autocast_mode.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/data/random.h"
#include "ood/distributed/gradient_average.h"
#include "ood/errors.h"
#include "ood/models/batch_norm.h"
#include "ood/models/network_file.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"
#include "ood/torch.h"
#include "ood/train/checkpoint.h"
#include "ood/train/curves.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/failure_signs.h"
#include "ood/train/interrupt.h"
#include "ood/train/pretraining.h"
#include "ood/train/recipe.h"
#include "ood/train/results_header.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"
#include "ood/train/schedule.h"
#include "ood/train/setup_warnings.h"
#include "ood/train/shared_state.h"
#include "ood/train/step_inputs.h"
#include "ood/train/threshold_rule.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;
namespace fs = std::filesystem;

std::int64_t outliers_per_step(const RunOptions& o, const Task& task) {
  const ObjectiveEntry& entry = get_objective(o.objective);
  if (!entry.uses_ood) return 0;
  if (task.train_outliers.size() > 0) {
    const auto n = std::llround(o.outlier_ratio * static_cast<double>(o.batch_size));
    if (n == 0)
      listener().warn(o.objective + " learns from outliers, and `outlier-ratio` " +
                      short_number(o.outlier_ratio) + " takes none of them");
    return n;
  }
  listener().warn(o.objective +
                  " learns from outliers and has none; set `outliers` CLASSES or "
                  "`synthetic-outliers` " +
                  synthetic_outlier_kinds(task.embeddings) + ", or it trains on ID data alone");
  return 0;
}

// bfloat16 inside the network, as autocast has it, while one of these lives.
class Precision {
 public:
  Precision(bool bf16, c10::DeviceType device)
      : on_(bf16), device_(device), before_(at::autocast::is_autocast_enabled(device)) {
    if (!on_) return;
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::set_autocast_enabled(device_, true);
  }
  ~Precision() {
    if (!on_) return;
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, before_);
  }
  Precision(const Precision&) = delete;
  Precision& operator=(const Precision&) = delete;

 private:
  bool on_;
  c10::DeviceType device_;
  bool before_;
};

// Loss and terms of a step, in double, which a device may still be computing.
struct StepNumbers {
  json line;
  at::Tensor values;  // the loss, then its terms
  std::vector<std::string> terms;
};

at::Tensor values_of(const NamedLosses& losses) {
  std::vector<at::Tensor> all{losses.total.detach()};
  for (const auto& [unused, term] : losses.terms) all.push_back(term);
  return torch::stack(all).to(torch::kDouble);
}

// One training: the loop and what belongs to it.
class Training {
  static constexpr std::size_t kMostUnread = 100;

 public:
  Training(const RunOptions& options, const Task& task, const fs::path& out, Start start)
      : o_(options),
        task_(task),
        out_(out),
        device_(open_device(options.device)),
        type_(options.precision == "float64" ? torch::kDouble : torch::kFloat),
        description_(describe(options, task)),
        model_(start_model(start != Start::kResume)),
        ranks_(ranks()),
        inputs_(o_, task, outliers_per_step(options, task), ranks_),
        id_(run_id(options)),
        checkpoints_(out, id_),
        parameters_(trainable(model_)),
        optimizer_(o_, parameters_, of_backbone(model_)),
        micro_steps_(inputs_.steps_per_epoch() * o_.epochs),
        total_(micro_steps_ / o_.accumulate),
        selection_(options.patience > 0 ? deciding_half(task, held_out_seed(options))
                                        : task.validation),
        started_(std::chrono::steady_clock::now()) {
    if (start == Start::kResume && ranks_.first()) {
      if (const auto position = checkpoints_.restore_newest(model_, optimizer_, total_)) {
        at_ = *position;
      } else {  // what was tried may have left parts
        fill_model(model_, tensors_of(start_model(/*filled=*/true)), out_);
        optimizer_.restore({});
      }
      listener().tell("resuming at step " + std::to_string(at_.step) + " of " +
                      std::to_string(total_));
    }
    // Now, since its file may change or go while this trains.
    if (!description_.package.empty())
      on_first(ranks_,
               [&] { keep_package(description_.file, description_.package, out / kModelFile); });
    at_ = share_state(ranks_, at_, model_, optimizer_);
    compute_on(device_, *model_.network, bool(description_.file), task.mean, task.deviation,
               [&] { return Inputs(task.train.inputs.slice(0, 1)); });
    if (o_.sync_batchnorm) spread_batch_norms(*model_.network, ranks_);
    if (ranks_.first()) log_ = std::make_unique<MetricsLog>(out, at_.step);
    warn(setup_warnings(get_objective(o_.objective), *model_.network));
    model_.objective->set_epoch(epochs_done());
  }

  ObjectiveResults run() {
    const InterruptGuard interrupt;
    try {
      begin(interrupt);
      gradients_.emplace(ranks_, parameters_);
      model_.network->train();
      model_.objective->train();
      const Tf32 tf32(o_.precision == "tf32");
      work(interrupt);
    } catch (...) {
      try {
        read_numbers();
      } catch (...) {  // what went wrong first is what to say
      }
      throw;
    }
    auto result = finish();
    if (ranks_.any(interrupt.interrupted()))
      throw Interrupted("interrupted; the training itself is finished, its results are in " +
                        out_.string());
    return result;
  }

 private:
  void begin(const InterruptGuard& interrupt) {
    if (at_.step > 0) return;
    if (o_.pretrain > 0 && !at_.pretrained) {
      const Tf32 tf32(o_.precision == "tf32");
      const auto own_rows = [&](const at::Tensor& x) { return output_of(x); };
      if (!pretrain(model_, own_rows, o_, task_, device_, type_, ranks_, interrupt))
        throw Interrupted(
            "interrupted in the pretraining; begin it anew with: ood train --resume " +
            out_.string());
      at_.pretrained = true;
      save();
    }
    model_.objective->at_event(Event::kBegin, pass());
  }

  void work(const InterruptGuard& interrupt) {
    while (at_.step < total_ && !stops_early()) {
      const bool asked = one_step(interrupt.interrupted());
      // All ranks stop at the same step.
      const bool interrupted = ranks_.alone() ? interrupt.interrupted() : asked;
      const bool epoch_ends = epoch_of(at_.step) > epoch_of(at_.step - 1);
      if (epoch_ends) end_epoch();
      const bool due = o_.checkpoint > 0 ? at_.step % o_.checkpoint == 0 : epoch_ends;
      if (interrupted) {
        save();
        throw Interrupted("interrupted at step " + std::to_string(at_.step) + " of " +
                          std::to_string(total_) + "; go on with: ood train --resume " +
                          out_.string());
      }
      // The best step's weights are wanted at the end, also if it is the last one.
      const bool best = epoch_ends && o_.patience > 0 && at_.best_step == at_.step;
      if ((due && at_.step < total_) || best) save();
    }
  }

  std::uint64_t seed() const { return static_cast<std::uint64_t>(o_.seed); }
  double elapsed() const {
    return at_.seconds +
           std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  }
  double epochs_done() const {
    return static_cast<double>(at_.step * o_.accumulate) /
           static_cast<double>(inputs_.steps_per_epoch());
  }
  // Epochs that are complete after that many steps.
  std::int64_t epoch_of(std::int64_t step) const {
    return step * o_.accumulate / inputs_.steps_per_epoch();
  }

  // All ID training data through the network as it is, for objectives with centers.
  TrainingPass pass() const {
    return [this](const auto& visit) {
      const auto part = [&](const NetworkOutput& output, std::int64_t begin) {
        const auto end = begin + output.logits.size(0);
        visit(output, task_.train.labels.slice(0, begin, end).to(device_));
      };
      run_in_parts(*model_.network, task_.mean, task_.deviation, task_.train.inputs, part, ranks_);
    };
  }

  // `filled`: with the weights that a run or file gives, of which the other ranks get the first's.
  Model start_model(bool filled) const {
    Model model = initial_model(description_, o_, filled && ranks().first());
    move(model, device_, type_);
    return model;
  }

  static void warn(const std::vector<std::string>& lines) {
    for (const auto& line : lines) listener().warn(line);
  }

  NetworkOutput output_of(const at::Tensor& x) const {
    const Precision precision(o_.precision == "bf16", device_.type());
    auto out = model_.network->forward(x);
    out.logits = out.logits.to(type_);
    out.features = out.features.to(type_);
    return out;
  }

  NetworkOutput forward(const at::Tensor& x) const {
    // ID samples and outliers in one forward: batch normalisation must see the mixture.
    auto out = output_of(x);
    // Every rank computes the loss of the whole batch.
    return ranks_.alone() ? out : inputs_.gathered(out, model_.objective->uses_features());
  }

  // `wish`: to stop. Returns whether any rank has one.
  bool one_step(bool wish) {
    // Whatever draws from torch's own stream draws the same after a resume.
    torch::manual_seed(
        random_bits(seed(), Purpose::kWeights, 1, static_cast<std::uint64_t>(at_.step)));
    const double lr = cosine_lr(o_.lr, o_.warmup, at_.step, total_);
    optimizer_.zero_grad();
    StepNumbers numbers{{{"step", at_.step + 1}, {"epoch", epoch_of(at_.step) + 1}}, {}, {}};
    NetworkOutput output;
    StepInputs::Step step;
    for (std::int64_t i = 0; i < o_.accumulate; ++i) {
      step = inputs_.at_step(at_.step * o_.accumulate + i, device_, type_);
      output = forward(step.inputs);
      // Measured margins are those of a network that has learned.
      if (at_.step == 0 && i == 0 && o_.measured.empty())
        warn(model_.objective->check(output, step.target));
      const NamedLosses losses = StepInputs::losses(*model_.objective, output, step);
      if (!losses.total.requires_grad())
        throw UsageError(o_.objective +
                         ": expected a loss that depends on weights of the network " +
                         "or the objective, got one of a " + description_.model +
                         " network with nothing to train for it; choose another `model`");
      const double share = 1.0 / static_cast<double>(o_.accumulate);
      const auto values = values_of(losses) * share;
      numbers.values = i == 0 ? values : numbers.values + values;
      if (i == 0)
        for (const auto& [name, unused] : losses.terms) numbers.terms.push_back(name);
      if (!reads_late() && !std::isfinite(numbers.values[0].item<double>())) break;
      if (i + 1 == o_.accumulate) gradients_->begin(wish);
      (o_.accumulate > 1 ? losses.total * share : losses.total).backward();
    }
    numbers.line["loss"] = nullptr;
    for (const auto& name : numbers.terms) numbers.line[name] = nullptr;
    numbers.line["lr"] = lr;
    unread_.push_back(std::move(numbers));
    if (!reads_late() || unread_.size() >= kMostUnread) read_numbers();
    const bool asked = gradients_->finish();
    if (o_.clip > 0) optimizer_.clip(o_.clip);
    optimizer_.step(lr);
    ++at_.step;
    model_.objective->after_step(output, step.target, epochs_done());
    char note[48] = "";
    if (last_loss_) std::snprintf(note, sizeof note, "loss %.3f", *last_loss_);
    listener().progress(o_.objective, at_.step, total_, note);
    return asked;
  }

  // A device works through a queue of steps; asking for the numbers of each would empty it.
  bool reads_late() const { return !device_.is_cpu(); }

  // Before anything that they decide on or that is stored with them.
  void read_numbers() {
    std::vector<at::Tensor> all;
    for (const auto& n : unread_) all.push_back(n.values);
    if (all.empty()) return;
    const auto values = torch::stack(all).cpu();
    const auto lines = std::exchange(unread_, {});
    for (std::size_t i = 0; i < lines.size(); ++i) {
      json line = lines[i].line;
      const double* value = values[static_cast<std::int64_t>(i)].const_data_ptr<double>();
      const double loss = *value;
      last_loss_ = loss;
      if (std::isfinite(loss)) line["loss"] = loss;
      for (const auto& name : lines[i].terms) line[name] = *++value;
      write(line);
      if (!std::isfinite(loss))
        throw DivergedError(o_.objective + ": the loss is " +
                            (std::isnan(loss) ? "NaN" : "infinite") + " at step " +
                            line["step"].dump() + " of " + std::to_string(total_) +
                            "; expected a number; try a smaller `lr` (now " + short_number(o_.lr) +
                            "). The run so far is in " + out_.string());
      at_.epoch_loss += loss;
      ++at_.epoch_steps;
    }
  }

  void write(const json& line) {
    if (log_) log_->write(line);
  }

  // Also of a training that was stopped after the epoch that said so.
  bool stops_early() const { return o_.patience > 0 && at_.epochs_without_gain >= o_.patience; }

  void end_epoch() {
    read_numbers();
    json end = {{"epoch", epoch_of(at_.step)},
                {"train_loss", at_.epoch_loss / static_cast<double>(at_.epoch_steps)}};
    at_.epoch_loss = 0;
    at_.epoch_steps = 0;
    settle(ranks_, model_);
    model_.objective->at_event(Event::kEpoch, pass());
    if (task_.validation.size() > 0) {
      const auto evidence =
          model_.objective->readout(run_network(*model_.network, task_, selection_)).evidence;
      if (evidence.defined()) {
        // One number decides for all ranks.
        const auto shared = torch::full({}, accuracy(evidence, selection_.labels), torch::kDouble);
        ranks_.share(shared);
        const double now = shared.item<double>();
        end["validation_accuracy"] = now;
        at_.epochs_without_gain = now > at_.best_accuracy ? 0 : at_.epochs_without_gain + 1;
        if (now > at_.best_accuracy) {
          at_.best_accuracy = now;
          at_.best_step = at_.step;
        }
      }
    }
    end["seconds"] = elapsed();
    write(end);
  }

  void save() {
    read_numbers();
    settle(ranks_, model_);
    Position p = at_;
    p.seconds = elapsed();
    on_first(ranks_, [&] {
      log_->make_durable();
      checkpoints_.save(p, model_, optimizer_);
    });
  }

  ObjectiveResults finish() {
    read_numbers();
    const std::int64_t steps = at_.step;
    const bool best = o_.patience > 0 && at_.best_step > 0;
    if (best) {
      on_first(ranks_, [&] { checkpoints_.restore_weights(at_.best_step, model_); });
      share_model(ranks_, model_);
    }
    settle(ranks_, model_);
    model_.objective->at_event(Event::kFinish, pass());
    model_.objective->eval();
    move(model_, device_, torch::kFloat);
    const double seconds = elapsed();
    auto scores =
        FittedScores::fit(*model_.network, *model_.objective, task_, held_out_seed(o_), o_.bank);
    try {
      scores.choose(o_.score, *model_.objective);
    } catch (const UsageError& e) {  // what was trained is worth more
      listener().warn(std::string(e.what()) + "; the run's score is " +
                      scores.run_score(*model_.objective));
    }
    HeldOut held_out = test_held_out(*model_.network, *model_.objective, task_, scores,
                                     held_out_seed(o_), held_out_decides(o_));
    on_first(ranks_, [&] {
      save_scores(out_, scores, id_);
      save_trained(out_ / kModelFile, {description_, model_, scores, held_out.scores, id_});
    });
    TestScores test_scores;
    const auto signs = failure_signs(*model_.network, *model_.objective, task_, scores, held_out);
    held_out.output = {};
    auto result = evaluate(*model_.network, *model_.objective, task_, scores, held_out,
                           threshold_rule({}, held_out.scores.size()), seed(), &test_scores);
    result.parameters = o_.parameters.at(o_.objective);
    result.seconds = seconds;
    result.steps = steps;
    if (best) result.best_step = at_.best_step;
    result.failure_signs = signs;
    for (const auto& sign : result.failure_signs)
      listener().warn(o_.objective + " did not learn: " + sign);
    on_first(ranks_, [&] {
      save_test_scores(out_, test_scores, id_);
      result.training = training_curves(read_metrics(out_));
      auto file = results_header(o_, task_);
      file.objectives = {result};
      write_results(out_ / kResultsFile, file);
      checkpoints_.remove_all();
    });
    return result;
  }

  const RunOptions& o_;
  const Task& task_;
  fs::path out_;
  c10::Device device_;
  at::ScalarType type_;  // that the network has in training
  ModelDescription description_;
  Model model_;
  const Ranks& ranks_;
  StepInputs inputs_;
  std::string id_;
  Checkpoints checkpoints_;
  std::vector<at::Tensor> parameters_;
  Optimizer optimizer_;
  std::optional<GradientAverage> gradients_{};  // after a pretraining, which has its own
  std::int64_t micro_steps_, total_;
  Position at_;
  std::vector<StepNumbers> unread_;
  std::optional<double> last_loss_{};
  Samples selection_;                // the held-out data that an epoch is judged by
  std::unique_ptr<MetricsLog> log_;  // of the first rank
  std::chrono::steady_clock::time_point started_;
};

// UsageError where the folder holds a training, finished or not.
void check_free(const fs::path& out) {
  if (!fs::exists(out / kResultsFile) && Checkpoints(out).any())
    throw UsageError(out.string() + ": holds an unfinished training; go on with `resume` " +
                     out.string() + ", or drop it with `overwrite`");
  if (holds_results(out))
    throw UsageError(out.string() +
                     ": holds a finished training; choose another folder with `out`, or drop it "
                     "with `overwrite`");
}

}  // namespace

ObjectiveResults train_run(const RunOptions& given, const Task& task, const fs::path& out,
                           Start start) {
  std::optional<RunLock> lock;
  on_first(ranks(), [&] {
    make_run_folder(out);
    lock.emplace(out);
    if (start == Start::kFresh) check_free(out);
  });
  if (start == Start::kResume) check_data(out, given, task, "the training was begun");
  RunOptions options = completed(given, task);
  // What was measured has the same value on all ranks.
  if (!ranks().alone()) {
    ranks().agree("the network's file", options.network_fingerprint);
    const std::string own_file = options.model;
    options = parse_config(ranks().share(to_toml(options)), "rank 0");
    if (is_network_file(own_file)) options.model = own_file;
    options.resolve();
  }
  if (start != Start::kResume) {
    check_start(options, task);
    on_first(ranks(), [&] {
      warn_of_learned(options, task);
      // Nothing of a training before may be taken for this one's.
      remove_training(out, options);
      write_file(out / kConfigFile, to_toml(options));
    });
    warn_of_imbalance(task, options.class_balance);
  }
  if (task.validation.size() == 0)
    listener().warn(
        "nothing is held out, so that the run will have no threshold: `ood score` and the detector "
        "need one; set `validation` above 0, or a threshold later with `ood threshold --data`");
  return Training(options, task, out, start).run();
}

}  // namespace ood
