#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <optional>

#include "apps/ood/commands.h"
#include "apps/ood/rule_flags.h"
#include "apps/ood/scored_inputs.h"
#include "ood/errors.h"
#include "ood/train/recipe.h"
#include "ood/train/run_files.h"
#include "ood/train/run_folder.h"
#include "ood/train/trained.h"

namespace ood::app {
namespace {

namespace fs = std::filesystem;

// The least number of held-out scores of which a threshold may reject a share that comes within a
// tenth of the promised one.
std::int64_t samples_for_a_tenth(const ThresholdRule& rule) {
  std::int64_t n = held_out_needed(rule.false_alarms, rule.confidence);
  const auto share = [&] {
    return static_cast<double>(allowed_above(n, rule.false_alarms, rule.confidence)) /
           static_cast<double>(n);
  };
  while (share() < 0.9 * rule.false_alarms) n += n / 8 + 1;
  return n;
}

struct ThresholdCommand {
  std::string run, data, device = "cpu";
  RuleFlags flags;
  std::int64_t threads = 0;
  bool reset = false;

  // Of ID inputs that the training did not see.
  std::vector<double> scores_of_data() const {
    const Detector detector = Detector::without_threshold(run, device);
    std::vector<double> scores;
    std::int64_t failed = 0;
    score_inputs(detector, data, {}, [&](const ScoredInputs& part) {
      for (std::int64_t i = 0; part.answer.scores.defined() && i < part.answer.scores.size(0); ++i)
        scores.push_back(part.answer.scores.const_data_ptr<double>()[i]);
      // What has no score is rejected when it comes, too.
      scores.insert(scores.end(), static_cast<std::size_t>(part.not_finite),
                    std::numeric_limits<double>::infinity());
      for (const auto& error : part.errors) failed += !error.empty();
      failed -= part.not_finite;
    });
    if (failed > 0)
      std::fprintf(stderr, "warning: %s: left out, for they cannot be read: %lld\n", data.c_str(),
                   static_cast<long long>(failed));
    if (scores.empty()) throw DataError(data + ": expected inputs that can be scored, got none");
    std::sort(scores.begin(), scores.end());
    return scores;
  }

  void warn_of_learned_inputs() const {
    const auto [learned, all] = count_learned(run, data);
    if (learned > 0)
      std::fprintf(stderr,
                   "warning: --data: the run learned or chose by %lld of %lld inputs, so that the "
                   "threshold promises too much\n",
                   static_cast<long long>(learned), static_cast<long long>(all));
  }

  void run_command() const {
    set_threads(threads);
    const fs::path model = model_of(run), folder = fs::absolute(model).parent_path();
    std::optional<RunLock> lock;
    const bool writes = !data.empty() || flags.asked().any() || reset;
    if (writes && fs::exists(model)) lock.emplace(folder);
    Trained trained = load_trained(model);
    if (!data.empty()) {
      if (was_learned(run, data))
        throw UsageError("--data: expected ID inputs that the run was not trained with, got what " +
                         run + " learned: a threshold by it would promise nothing");
      if (trained.description.embeddings) warn_of_learned_inputs();
      trained.validation_scores = scores_of_data();
      trained.validated_on = fs::absolute(data).lexically_normal().string();
    }
    if (reset) trained.rule.reset();
    const ThresholdRule rule =
        threshold_rule(trained.rule, trained.validation_scores.size(), flags.asked());
    const Threshold t = threshold_by(rule, trained.validation_scores);
    if (!data.empty() && std::isinf(t.value))
      throw DataError(
          data + ": expected inputs of which at most " +
          std::to_string(allowed_above(t.held_out, rule.false_alarms, rule.confidence)) +
          " have no finite score, since these are rejected by any threshold");
    std::printf("score            %s\n",
                trained.scores.run_score(*trained.model.objective).c_str());
    std::printf("threshold        %.12g; accept at or below\n", t.value);
    std::printf("promise          at most %g %% of ID inputs rejected, confidence %g %%\n",
                100 * rule.false_alarms, 100 * rule.confidence);
    std::printf(
        "held-out ID data %lld%s, of which it rejects %lld (%.2f %%; 95 %% interval %.2f to %.2f "
        "%%)\n",
        static_cast<long long>(t.held_out),
        trained.validated_on.empty() ? "" : (" of " + trained.validated_on).c_str(),
        static_cast<long long>(t.above),
        100.0 * static_cast<double>(t.above) / static_cast<double>(t.held_out), 100 * t.low,
        100 * t.high);
    if (const auto n = samples_for_a_tenth(rule); n > t.held_out)
      std::printf(
          "narrower         %lld held-out samples would let it come within a tenth of the promised "
          "share; --data takes more\n",
          static_cast<long long>(n));
    std::printf(
        "holds for ID inputs drawn as the held-out data were; it is void where they drift\n");
    if (!writes) return;
    if (flags.asked().any()) trained.rule = rule;
    save_trained(model, trained);
    std::printf("stored in %s%s\n", model.c_str(),
                data.empty() ? "" : "; `ood fit` goes back to what the training held out");
  }
};

}  // namespace

void add_threshold(CLI::App& app) {
  auto* command = app.add_subcommand(
      "threshold", "the threshold of a run for a false-alarm rate; sets it without retraining");
  auto state = std::make_shared<ThresholdCommand>();
  command->add_option("RUN", state->run, "run folder of `ood train`")->required();
  command
      ->add_option("--data", state->data,
                   "ID inputs that the training did not see: set it by their scores instead of "
                   "those that were held out; they need no labels")
      ->type_name("PATH");
  state->flags.add(*command);
  command->add_flag("--reset", state->reset, "forget a rate that was stored before");
  add_device(*command, state->device);
  add_threads(*command, state->threads);
  command->footer(
      "A rate that is given is stored in the model's file; `ood score`, ood::Detector and "
      "ood.load_run use it.\nExamples:\n  ood threshold runs/oe --false-alarms 0.01\n"
      "  ood threshold runs/oe --data more_good_parts");
  command->callback([state] { state->run_command(); });
}

}  // namespace ood::app
