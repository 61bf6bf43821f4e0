#include <cstdio>

#include "apps/ood/commands.h"
#include "apps/ood/rule_flags.h"
#include "ood/train/run_files.h"
#include "ood/train/trained.h"

namespace ood::app {
namespace {

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
  std::string run;
  RuleFlags flags;

  void run_command() const {
    const std::filesystem::path folder = run;
    const Trained trained = load_trained(model_of(folder));
    const ThresholdRule rule =
        threshold_rule(folder, trained.validation_scores.size(), flags.asked());
    const Threshold t = threshold_by(rule, trained.validation_scores);
    std::printf("score            %s\n",
                trained.scores.default_score(*trained.model.objective).c_str());
    std::printf("threshold        %.12g; accept at or below\n", t.value);
    std::printf("promise          at most %g %% of ID inputs rejected, confidence %g %%\n",
                100 * rule.false_alarms, 100 * rule.confidence);
    std::printf(
        "held-out ID data %lld, of which it rejects %lld (%.2f %%; 95 %% interval %.2f to "
        "%.2f %%)\n",
        static_cast<long long>(t.held_out), static_cast<long long>(t.above),
        100.0 * static_cast<double>(t.above) / static_cast<double>(t.held_out), 100 * t.low,
        100 * t.high);
    if (const auto n = samples_for_a_tenth(rule); n > t.held_out)
      std::printf(
          "narrower         %lld held-out samples would let it come within a tenth of the "
          "promised share\n",
          static_cast<long long>(n));
    std::printf(
        "holds for ID inputs drawn as the held-out data were; it is void where they drift\n");
    if (flags.asked().any()) {
      write_threshold_rule(folder, rule);
      std::printf("stored in %s/threshold.json\n", run.c_str());
    }
  }
};

}  // namespace

void add_threshold(CLI::App& app) {
  auto* command = app.add_subcommand(
      "threshold", "the threshold of a run for a false-alarm rate; sets it without retraining");
  auto state = std::make_shared<ThresholdCommand>();
  command->add_option("RUN", state->run, "run folder of `ood train`")->required();
  state->flags.add(*command);
  command->footer(
      "A rate that is given is stored beside the model; `ood score`, ood::Detector and "
      "ood.load_run "
      "use it.\nExample:\n  ood threshold runs/oe --false-alarms 0.01");
  command->callback([state] { state->run_command(); });
}

}  // namespace ood::app
