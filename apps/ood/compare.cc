#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/ood/commands.h"
#include "apps/ood/terminal.h"
#include "ood/errors.h"
#include "ood/registry/registry.h"
#include "ood/report/report.h"
#include "ood/train/safetensors.h"
#include "ood/train/trainer.h"

namespace ood::app {
namespace {

// Highest AUROC of the objective's own score first; of several OOD sets their mean.
void rank(nlohmann::ordered_json& objectives) {
  const auto auroc = [](const nlohmann::ordered_json& o) {
    double sum = 0;
    for (const auto& [set, figures] : o.at("ood").items()) sum += figures.at("auroc").get<double>();
    return sum / static_cast<double>(o.at("ood").size());
  };
  std::stable_sort(objectives.begin(), objectives.end(),
                   [&](const auto& a, const auto& b) { return auroc(a) > auroc(b); });
}

struct Compare {
  RunOptions options;
  std::string names = "all", out, config;

  std::vector<std::string> objectives_to_run() const {
    if (names != "all") return split(names);
    std::vector<std::string> all;
    for (const auto* e : ood::objectives()) all.emplace_back(e->name);
    return all;
  }

  void run(const CLI::App& command) {
    apply_config(command, config, options);
    const auto wanted = objectives_to_run();
    if (wanted.empty())
      throw UsageError(
          "--objectives: expected a list such as cross_entropy,outlier_exposure, or all");
    // Everything that can be wrong with the command line is said before the first training.
    for (const auto& name : wanted) {
      RunOptions o = options;
      o.objective = name;
      o.resolve();
    }
    for (const auto& [name, unused] : options.parameters)
      if (std::find(wanted.begin(), wanted.end(), name) == wanted.end())
        throw UsageError("--" + name + ".*: " + name + " is not among the compared objectives");
    set_threads(options.threads);
    make_run_folder(out);
    const Task task = make_task(task_options(options));
    RunOptions shared = options;
    shared.objective = names;
    write_file(out + "/config.toml", to_toml(shared));
    auto results = results_header(shared, task);
    results["objectives"] = nlohmann::ordered_json::array();
    std::string diverged;
    for (const auto& name : wanted) {
      RunOptions o = options;
      o.objective = name;
      try {
        results["objectives"].push_back(train_run(o, task, out + "/" + name, Start::kAnew));
      } catch (const DivergedError& e) {
        diverged = with_flags(e.what());
        std::cerr << "ood compare: " << diverged << "; going on without it\n";
        continue;
      }
      rank(results["objectives"]);
      write_file(out + "/results.json", results.dump(1) + "\n");
      write_file(out + "/report.html", report::html(results));
    }
    if (!results["objectives"].empty())
      std::cout << report::table(results) << "report: " << out << "/report.html\n";
    if (!diverged.empty()) throw DivergedError(diverged);
  }
};

}  // namespace

void add_compare(CLI::App& app) {
  auto* command = app.add_subcommand("compare", "train with several objectives and compare them");
  auto state = std::make_shared<Compare>();
  state->out = "runs/compare";
  command->add_option("--objectives", state->names, "names separated by commas, or all")
      ->type_name("LIST")
      ->capture_default_str();
  command->add_option("--out", state->out, "folder for the comparison, a run folder in it each")
      ->type_name("DIR")
      ->capture_default_str();
  command
      ->add_option("--config", state->config, "TOML file with such options; flags stand above it")
      ->type_name("FILE");
  add_run_options(*command, state->options, {"objective"});
  add_parameter_flags(*command, state->options);
  command->footer(
      "Example:\n  ood compare --objectives cross_entropy,outlier_exposure --data fashion-mnist "
      "\\\n"
      "    --known 0,1,2,3,4,8 --outliers 5,6 --unknown 7,9 --out runs/both");
  command->callback([state, command] { state->run(*command); });
}

}  // namespace ood::app
