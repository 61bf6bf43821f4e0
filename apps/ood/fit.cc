#include <filesystem>
#include <iostream>
#include <optional>

#include "apps/ood/commands.h"
#include "apps/ood/terminal.h"
#include "ood/errors.h"
#include "ood/train/run_files.h"
#include "ood/train/run_folder.h"

namespace ood::app {
namespace {

struct Fit {
  UsedRun used;
  std::string score;
  std::optional<std::int64_t> bank;
  ScoreParameters parameters;

  // A rule may promise more than the scores at hand can.
  static void warn_of_rule(const Trained& trained) {
    try {
      threshold_by(threshold_rule(trained.rule, trained.validation_scores.size()),
                   trained.validation_scores);
    } catch (const Error& e) {
      std::cerr << "warning: `ood score` will refuse this run: " << with_flags(e.what()) << "\n";
    }
  }

  void run() const {
    const auto& folder = used.folder;
    std::optional<RunLock> lock;
    if (std::filesystem::exists(std::filesystem::path(folder) / kModelFile)) lock.emplace(folder);
    auto loaded = used.load([&](RunOptions& o) {
      o.bank = bank.value_or(o.bank);
      o.ood_data.clear();  // which may be gone
    });
    Trained& trained = loaded.trained;
    const auto seed = held_out_seed(loaded.options);
    const std::string wanted = score.empty() ? trained.scores.chosen() : score;
    auto& network = *trained.model.network;
    const auto& objective = *trained.model.objective;
    trained.scores =
        FittedScores::fit(network, objective, loaded.task, seed, loaded.options.bank, parameters);
    trained.scores.choose(wanted, objective);
    if (!trained.validated_on.empty())
      std::cerr << "note: the threshold is by what the training held out, no longer by "
                << trained.validated_on << "\n";
    trained.validated_on = "";
    trained.validation_scores = test_held_out(network, objective, loaded.task, trained.scores, seed,
                                              held_out_decides(loaded.options))
                                    .scores;
    save_scores(folder, trained.scores, trained.run_id);
    save_trained(model_of(folder), trained);
    warn_of_rule(trained);
    for (const auto& [name, reason] : trained.scores.unavailable())
      std::cerr << "ood fit: without " << name << ": " << reason << "\n";
    std::cout << "the run's score: " << trained.scores.run_score(objective) << "\nscores:";
    for (const auto& name : trained.scores.names(objective)) std::cout << " " << name;
    std::cout << "\nwritten: " << folder << "/" << kScoresFile << "; " << kResultsFile << " and "
              << kReportFile << " stay, see ood eval\n";
  }
};

}  // namespace

void add_fit(CLI::App& app) {
  auto* command = app.add_subcommand("fit", "fit all scores to a run's training data");
  auto state = std::make_shared<Fit>();
  state->used.add(*command);
  command
      ->add_option("--bank", state->bank,
                   "of how many training samples knn and nnguide keep the features; 0: all "
                   "that 192 MB hold")
      ->type_name("N");
  command
      ->add_option(
          "--score", state->score,
          "the run's from now on: one of these, own, joint or auto; default: the present one")
      ->type_name("NAME");
  for (const ScoreEntry* s : scores())
    for (const ParameterEntry& p : s->parameters)
      command
          ->add_option_function<double>(
              "--" + std::string(s->name) + "." + std::string(p.name),
              [state, s, &p](const double& value) {
                state->parameters[std::string(s->name)][std::string(p.name)] = value;
              },
              std::string(p.help) + "; " + p.range())
          ->type_name("X")
          ->default_str(c10::str(p.default_value))
          ->group("Parameters of the scores");
  command->footer(
      "A training does this at its end; again for other parameters, or another score of the "
      "run.\nExample:\n  ood fit runs/oe --score knn --knn.k 200");
  command->callback([state] { state->run(); });
}

}  // namespace ood::app
