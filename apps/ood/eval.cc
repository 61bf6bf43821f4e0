#include <iostream>

#include "apps/ood/commands.h"
#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/report/report.h"
#include "ood/train/evaluate.h"
#include "ood/train/failure_signs.h"
#include "ood/train/results_header.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"

namespace ood::app {
namespace {

struct Eval {
  UsedRun used;
  std::vector<std::string> ood_data;
  std::optional<std::int64_t> limit_test;

  // A set of the training that is somewhere else now, or is another one.
  void replace_sets(std::vector<std::string>& sets) const {
    for (const auto& item : ood_data)
      std::erase_if(sets, [&](const auto& s) { return ood_set_name(s) == ood_set_name(item); });
    sets.insert(sets.end(), ood_data.begin(), ood_data.end());
  }

  void run() {
    const auto& folder = used.folder;
    auto loaded = used.load(
        [&](RunOptions& o) {
          replace_sets(o.ood_data);
          o.limit_test = limit_test.value_or(o.limit_test);
        },
        /*few_of_training=*/true);
    auto& network = *loaded.trained.model.network;
    const auto& objective = *loaded.trained.model.objective;
    const auto seed = static_cast<std::uint64_t>(loaded.options.seed);
    const FittedScores scores = load_scores(folder, loaded.trained.run_id);
    if (!scores.hold(loaded.trained.scores))
      throw DataError(folder + ": " + kScoresFile + " and " + kModelFile +
                      " were not fitted at once; fit them again with `ood fit`");
    // The threshold is that of `ood score`, whatever it was set by.
    const HeldOut held_out =
        held_out_with(network, objective, loaded.task, loaded.trained.validation_scores);
    auto result = evaluate(network, objective, loaded.task, scores, held_out,
                           threshold_rule(loaded.trained.rule, held_out.scores.size()), seed);
    result.parameters = loaded.options.parameters.at(loaded.options.objective);
    result.failure_signs = failure_signs(network, objective, loaded.task, scores, held_out);
    auto results = results_header(loaded.options, loaded.task);
    results.objectives = {result};
    std::cout << report::table(results) << std::flush;  // also where the folder cannot be written
    write_results(folder + "/" + kEvalResultsFile, results);
    write_file(folder + "/" + kEvalReportFile, report::html(results));
    std::cout << "report: " << folder << "/" << kEvalReportFile << "\n";
  }
};

}  // namespace

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "test a trained run, also on further OOD sets");
  auto state = std::make_shared<Eval>();
  state->used.add(*command);
  command->add_option("--ood-data", state->ood_data, "a further OOD test set; may be repeated")
      ->type_name("[near:|far:]NAME=PATH")
      ->allow_extra_args(false);
  command->add_option("--limit-test", state->limit_test, "at most N samples a test set; 0: all")
      ->type_name("N");
  command->footer(
      "Writes eval.json and eval.html into the run folder; results.json of the training stays.\n"
      "Example:\n  ood eval runs/oe --ood-data digits=/path/to/mnist");
  command->callback([state] { state->run(); });
}

}  // namespace ood::app
