#include <filesystem>
#include <iostream>

#include "apps/ood/commands.h"
#include "ood/data/files.h"
#include "ood/distributed/ranks.h"
#include "ood/errors.h"
#include "ood/models/network_file.h"
#include "ood/registry/listener.h"
#include "ood/registry/registry.h"
#include "ood/report/report.h"
#include "ood/train/device.h"
#include "ood/train/held_run.h"
#include "ood/train/recipe.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"
#include "ood/train/trainer.h"

namespace ood::app {
namespace {

struct Train {
  RunOptions options;
  std::map<std::string, double> parameters;  // of --objective.NAME
  std::string out, config, resume;
  bool overwrite = false;
  std::int64_t rank_timeout = 300;

  void run(const CLI::App& command) {
    const bool restarted = join_ranks();
    Start start = overwrite ? Start::kAnew : Start::kFresh;
    if (!resume.empty()) {
      out = resume;
      start = Start::kResume;
      read_run(command, restarted);
    } else {
      apply_config(command, config, options);
      for (const auto& [name, value] : parameters) {
        options.parameters[options.objective][name] = value;
        std::erase(options.measured, name);  // given now
      }
      on_first(ranks(), [&] { take_division(options); });
      options.split_seed = std::stoll(ranks().share(std::to_string(options.split_seed)));
    }
    RunOptions(options).resolve();  // says what is wrong with it before any data is read
    ranks().agree("the configuration", comparable_between_hosts());
    set_threads(options.threads);
    open_device(options.device);  // before the first tensor
    on_first(ranks(), [&] { make_run_folder(out); });
    const Task task = make_task(task_options(options));
    ranks().agree("the data", task.fingerprint + ", tested on " + task.test_fingerprint);
    try {
      if (!finished_before(task, start)) train_run(options, task, out, start);
    } catch (const Interrupted&) {
      // In its last moment: there are results, and nothing that could be resumed.
      if (ranks().first() && std::filesystem::exists(out + "/" + kResultsFile)) write_report();
      throw;
    }
    if (ranks().first()) write_report();
  }

 private:
  void write_report() const {
    const auto results = read_results(out);
    write_file(out + "/" + kReportFile, report::html(results));
    std::cout << report::table(results) << "report: " << out << "/" << kReportFile << "\n";
  }

  // Returns whether a launcher started the ranks again.
  bool join_ranks() const {
    const Environment e = environment();
    if (e.size == 1) return e.restarts > 0;
    if (rank_timeout < 1)
      throw UsageError("--rank-timeout: expected at least 1 second, got " +
                       std::to_string(rank_timeout));
    set_ranks(connected(e, std::chrono::seconds(rank_timeout)));
    if (!ranks().first()) set_listener(nullptr);
    return ranks().any(e.restarts > 0);
  }

  // The run folder is the first rank's; others need not see it.
  void read_run(const CLI::App& command, bool restarted) {
    std::string text;
    on_first(ranks(), [&] {
      check_resume(command, restarted);
      text = to_toml(read_config(resume + "/" + kConfigFile));
    });
    options = parse_config(ranks().share(text), resume + "/" + kConfigFile);
  }

  std::string comparable_between_hosts() const {
    RunOptions o = options;
    // Where they lie may differ.
    o.init = o.weights = "";
    if (is_network_file(o.model)) o.model = network_file_kind(o.model);
    return comparable(o);
  }

  // Whether the folder holds this training, of this launch, and all of it: a launcher has started
  // the ranks again. Where it holds a part, `start` and `options` become those of going on.
  bool finished_before(const Task& task, Start& start) {
    options.launch = environment().launch;
    int state = HeldRun::kOther;
    std::string text;
    on_first(ranks(), [&] {
      const auto config = out + "/" + kConfigFile;
      if (options.launch.empty() || !std::filesystem::exists(config)) return;
      const RunOptions there = read_config(config);
      if (there.launch == options.launch) {
        state = held_run(out, options, task).state;
        text = to_toml(there);
      } else if (!resume.empty() && std::filesystem::exists(resume + "/" + kResultsFile)) {
        state = HeldRun::kFinished;
      }
    });
    state = std::stoi(ranks().share(std::to_string(state)));
    if (state == HeldRun::kNothing) start = Start::kAnew;
    if (state == HeldRun::kUnfinished) {
      start = Start::kResume;
      options = parse_config(ranks().share(text), out + "/" + kConfigFile);
    }
    return state == HeldRun::kFinished;
  }

  void check_resume(const CLI::App& command, bool restarted) const {
    for (const CLI::Option* o : command.get_options())
      if (o->count() > 0 && o->get_name() != "--resume" && o->get_name() != "--rank-timeout")
        throw UsageError(o->get_name() +
                         ": expected no other flag beside --resume, which goes on exactly as the "
                         "run began");
    if (!std::filesystem::exists(resume + "/" + kConfigFile))
      throw DataError(resume + ": expected a run folder with config.toml, found none");
    if (restarted || !std::filesystem::exists(resume + "/" + kResultsFile)) return;
    const bool reported = std::filesystem::exists(resume + "/" + kReportFile);
    if (!reported && ranks().first()) write_report();  // it was ended in its last moment
    throw UsageError(resume + ": is finished, there is nothing to resume" +
                     (reported ? "" : "; its report was missing and is there now"));
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
  command
      ->add_option("--rank-timeout", state->rank_timeout,
                   "of several processes: seconds until one that hangs ends the others")
      ->type_name("N")
      ->capture_default_str();
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
      "  ood train --resume runs/oe\n"
      "  ood launch -n 2 train --out runs/two        two processes; see docs/distributed.md");
  command->callback([state, command] { state->run(*command); });
}

}  // namespace ood::app
