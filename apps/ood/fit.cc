#include <iostream>
#include <optional>

#include "apps/ood/commands.h"
#include "ood/errors.h"
#include "ood/train/loaded_run.h"
#include "ood/train/run_files.h"
#include "ood/train/run_folder.h"

namespace ood::app {
namespace {

struct Fit {
  std::string folder, data, device = "cpu";
  std::string score;
  std::optional<std::int64_t> threads, bank;
  ScoreParameters parameters;

  void run() const {
    auto loaded = load_run(
        folder,
        [&](RunOptions& o) {
          if (!data.empty()) o.data = data;
          o.threads = threads.value_or(o.threads);
          o.bank = bank.value_or(o.bank);
          if (!score.empty()) o.score = score;
          set_threads(o.threads);
        },
        device);
    const RunLock lock(folder);
    Trained& trained = loaded.trained;
    const auto seed = static_cast<std::uint64_t>(loaded.options.seed);
    auto& network = *trained.model.network;
    const auto& objective = *trained.model.objective;
    trained.scores =
        FittedScores::fit(network, objective, loaded.task, seed, loaded.options.bank, parameters);
    trained.scores.choose(loaded.options.score, objective);
    trained.validated_on = "";
    trained.validation_scores = test_held_out(network, objective, loaded.task, trained.scores, seed,
                                              held_out_decides(loaded.options))
                                    .scores;
    save_scores(folder, trained.scores, trained.run_id);
    save_trained(model_of(folder), trained);
    for (const auto& [name, reason] : trained.scores.unavailable())
      std::cerr << "ood fit: without " << name << ": " << reason << "\n";
    std::cout << "the run's score: " << trained.scores.run_score(objective) << "\nscores:";
    for (const auto& name : trained.scores.names(objective)) std::cout << " " << name;
    std::cout << "\nwritten: " << folder << "/" << kScoresFile
              << "; results.json and report.html stay, see ood eval\n";
  }
};

}  // namespace

void add_fit(CLI::App& app) {
  auto* command = app.add_subcommand("fit", "fit all scores to a run's training data");
  auto state = std::make_shared<Fit>();
  command->add_option("RUN", state->folder, "run folder of `ood train`")->required();
  command->add_option("--data", state->data, "where the run's data is now; default: where it was")
      ->type_name("PATH");
  add_device(*command, state->device);
  add_threads(*command, state->threads);
  command
      ->add_option("--bank", state->bank,
                   "of how many training samples knn and nnguide keep the features; 0: all "
                   "that 192 MB hold")
      ->type_name("N");
  command
      ->add_option("--score", state->score,
                   "the run's from now on: one of these, own, joint or auto; default: as trained")
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
