#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/ood/commands.h"
#include "ood/errors.h"
#include "ood/objectives/registry.h"
#include "ood/report/report.h"
#include "ood/train/safetensors.h"
#include "ood/train/trainer.h"

namespace ood::app {
namespace {

struct Train {
  RunOptions options;
  std::map<std::string, double> parameters;  // of --objective.NAME
  std::string out;

  void run() {
    for (const auto& [name, value] : parameters)
      options.parameters[options.objective][name] = value;
    options.resolve();
    set_threads(options);
    make_run_folder(out);
    const Task task = make_task(task_options(options));
    auto results = results_header(options, task);
    results["objectives"] = {train_run(options, task, out)};
    write_file(out + "/report.html", report::html(results));
    std::cout << report::table(results) << "report: " << out << "/report.html\n";
  }
};

}  // namespace

void add_train(CLI::App& app) {
  auto* command = app.add_subcommand("train", "train a classifier with one objective and test it");
  auto state = std::make_shared<Train>();
  state->out = "runs/train";
  command->add_option("--out", state->out, "run folder")->type_name("DIR")->capture_default_str();
  add_run_options(*command, state->options);
  std::map<std::string, std::string> users;
  for (const ObjectiveEntry* e : objectives())
    for (const ParameterEntry& p : e->parameters)
      users[std::string(p.name)] +=
          (users[std::string(p.name)].empty() ? "" : ", ") + std::string(e->name);
  for (const auto& [name, objectives_with] : users)
    command
        ->add_option_function<double>(
            "--objective." + name, [state, n = name](const double& v) { state->parameters[n] = v; },
            "parameter of " + objectives_with)
        ->type_name("X")
        ->group("Parameters of the objective");
  command->footer(
      "Example:\n  ood train --objective outlier_exposure --objective.alpha 0.5 \\\n"
      "    --data fashion-mnist --known 0,1,2,3,4,8 --outliers 5,6 --unknown 7,9 --out runs/oe");
  command->callback([state] { state->run(); });
}

}  // namespace ood::app
