#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/ood/commands.h"
#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/registry/registry.h"
#include "ood/report/report.h"
#include "ood/train/held_run.h"
#include "ood/train/trainer.h"

namespace ood::app {
namespace {

struct Train {
  RunOptions options;
  std::map<std::string, double> parameters;  // of --objective.NAME
  std::string out, config, resume;
  bool overwrite = false;

  void run(const CLI::App& command) {
    Start start = overwrite ? Start::kAnew : Start::kFresh;
    if (!resume.empty()) {
      check_resume(command);
      out = resume;
      options = read_config(resume + "/config.toml");
      start = Start::kResume;
    } else {
      apply_config(command, config, options);
      for (const auto& [name, value] : parameters)
        options.parameters[options.objective][name] = value;
    }
    RunOptions(options).resolve();  // says what is wrong with it before any data is read
    set_threads(options.threads);
    make_run_folder(out);
    const Task task = make_task(task_options(options));
    train_run(options, task, out, start);
    const auto results = read_results(out);
    write_file(out + "/report.html", report::html(results));
    std::cout << report::table(results) << "report: " << out << "/report.html\n";
  }

 private:
  void check_resume(const CLI::App& command) const {
    for (const CLI::Option* o : command.get_options())
      if (o->count() > 0 && o->get_name() != "--resume")
        throw UsageError(o->get_name() +
                         ": expected no other flag beside --resume, which goes on exactly as the "
                         "run began");
    if (!std::filesystem::exists(resume + "/config.toml"))
      throw DataError(resume + ": expected a run folder with config.toml, found none");
    if (std::filesystem::exists(resume + "/results.json"))
      throw UsageError(resume + ": is finished, there is nothing to resume");
  }
};

}  // namespace

void add_train(CLI::App& app) {
  auto* command = app.add_subcommand("train", "train a classifier with one objective and test it");
  auto state = std::make_shared<Train>();
  state->out = "runs/train";
  command->add_option("--out", state->out, "run folder")->type_name("DIR")->capture_default_str();
  command
      ->add_option("--config", state->config, "TOML file with such options; flags stand above it")
      ->type_name("FILE");
  command->add_option("--resume", state->resume, "go on with an interrupted run, exactly")
      ->type_name("RUN");
  command->add_flag("--overwrite", state->overwrite, "drop the training that the folder holds");
  add_run_options(*command, state->options);
  std::map<std::string, std::string> users;  // the objectives with a parameter, and its range
  for (const ObjectiveEntry* e : objectives())
    for (const ParameterEntry& p : e->parameters)
      users[std::string(p.name)] += (users[std::string(p.name)].empty() ? "" : ", ") +
                                    std::string(e->name) + " (" + p.range() + ")";
  for (const auto& [name, objectives_with] : users)
    command
        ->add_option_function<double>(
            "--objective." + name, [state, n = name](const double& v) { state->parameters[n] = v; },
            "parameter of " + objectives_with)
        ->type_name("X")
        ->group("Parameters of the objective");
  command->footer(
      "Example:\n  ood train --objective outlier_exposure --objective.alpha 0.5 \\\n"
      "    --data fashion-mnist --known 0,1,2,3,4,8 --outliers 5,6 --unknown 7,9 --out runs/oe\n"
      "  ood train --resume runs/oe");
  command->callback([state, command] { state->run(*command); });
}

}  // namespace ood::app
