#include <algorithm>
#include <cmath>
#include <iostream>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "apps/ood/commands.h"
#include "apps/ood/terminal.h"
#include "ood/data/files.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/metrics/detection.h"
#include "ood/registry/listener.h"
#include "ood/registry/registry.h"
#include "ood/report/report.h"
#include "ood/train/checkpoint.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/held_run.h"
#include "ood/train/recipe.h"
#include "ood/train/run_files.h"
#include "ood/train/run_folder.h"
#include "ood/train/trainer.h"

namespace ood::app {
namespace {

using json = nlohmann::ordered_json;

bool learned(const json& objective) { return objective.at("failure_signs").empty(); }

// Highest AUROC of the run's score first, of several OOD sets and seeds their mean; what did not
// learn last.
void rank(json& objectives) {
  const auto auroc = [](const json& o) {
    double sum = 0;
    for (const auto& [set, figures] : o.at("ood").items())
      sum += o.contains("over_seeds") ? o.at("over_seeds").at(set).at("mean").get<double>()
                                      : figures.at("auroc").get<double>();
    return sum / static_cast<double>(o.at("ood").size());
  };
  std::stable_sort(objectives.begin(), objectives.end(), [&](const auto& a, const auto& b) {
    return learned(a) != learned(b) ? learned(a) : auroc(a) > auroc(b);
  });
}

// Mean and standard deviation of the AUROC of each OOD set over the runs of one objective, and every
// run's; the rest of the entry is that of the first.
void add_up_seeds(json& first, const std::vector<json>& runs) {
  json over_seeds;
  for (const auto& [set, unused] : first.at("ood").items()) {
    std::vector<double> values;
    for (const json& run : runs) values.push_back(run.at("ood").at(set).at("auroc"));
    const auto n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double squares = 0;
    for (const double v : values) squares += (v - mean) * (v - mean);
    over_seeds[set] = {
        {"mean", mean}, {"sd", n > 1 ? std::sqrt(squares / (n - 1)) : 0.0}, {"runs", values}};
  }
  first["over_seeds"] = std::move(over_seeds);
  first["failure_signs"] = json::array();
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (const std::string sign : runs[i].at("failure_signs"))
      first["failure_signs"].push_back("run " + std::to_string(i + 1) + " of " +
                                       std::to_string(runs.size()) + ": " + sign);
}

// How far each objective is behind the best of those that learned, on the same test samples: the 95 %
// interval of the difference of their AUROCs.
void add_differences(json& objectives, const std::map<std::string, TestScores>& scores,
                     std::uint64_t seed) {
  if (objectives.empty()) return;
  const json sets = objectives.front().at("ood");  // entries grow in the loop
  for (const auto& [set, unused] : sets.items()) {
    const json* best = nullptr;
    for (const json& o : objectives)
      if (learned(o) && (best == nullptr ||
                         o.at("ood").at(set).at("auroc") > best->at("ood").at(set).at("auroc")))
        best = &o;
    if (best == nullptr) continue;
    const std::string name = best->at("objective");
    const auto of_best = scores.find(name);
    if (of_best == scores.end()) continue;
    for (json& o : objectives) {
      const auto other = scores.find(o.at("objective").get<std::string>());
      if (other == scores.end() || other->first == name) continue;
      const auto d = auroc_difference(of_best->second.id, of_best->second.ood.at(set),
                                      other->second.id, other->second.ood.at(set), seed);
      o["ood"][set]["behind_best"] = {{"objective", name}, {"low", d.low}, {"high", d.high}};
    }
  }
}

struct Compare {
  RunOptions options;
  std::string names = "all", out, config;
  std::int64_t seeds = 1;
  bool overwrite = false;

  // What there is so far.
  void write_results(json& results, const std::map<std::string, std::vector<json>>& runs) const {
    results["objectives"] = json::array();
    for (const auto& [name, of_seeds] : runs) {
      if (of_seeds.empty()) continue;
      json entry = of_seeds.front();
      if (seeds > 1) add_up_seeds(entry, of_seeds);
      results["objectives"].push_back(std::move(entry));
    }
    rank(results["objectives"]);
    write_tables(results);
  }

  void write_tables(const json& results) const {
    write_file(out + "/results.json", results.dump(1) + "\n");
    write_file(out + "/report.html", report::html(results));
  }

  std::vector<std::string> objectives_to_run() const {
    if (names != "all") return split(names);
    std::vector<std::string> all;
    for (const auto* e : ood::objectives()) all.emplace_back(e->name);
    return all;
  }

  std::string folder_of(std::int64_t seed) const {
    return out + (seeds > 1 ? "/seed-" + std::to_string(seed) : "");
  }

  // What the folder of each objective holds: an unfinished training goes on, a finished one is taken
  // as it is. Of what is to be trained anew, that it can be is known before anything is dropped.
  std::map<std::string, HeldRun::State> held_runs(const std::vector<std::string>& wanted,
                                                  const RunOptions& shared,
                                                  const Task& task) const {
    std::map<std::string, HeldRun::State> states;
    for (const auto& name : wanted) {
      RunOptions o = shared;
      o.objective = name;
      const std::string run = folder_of(shared.seed) + "/" + name;
      const auto held = overwrite ? HeldRun{} : held_run(run, o, task);
      if (held.state == HeldRun::kNothing) {
        const Unheard unheard;
        const RunOptions nothing_measured;
        check_start(completed(o, task, &nothing_measured), task);
        check_removal(run, o);
      }
      if (held.state == HeldRun::kOther)
        throw UsageError(run + ": holds a training with other settings or data (" +
                         held.difference +
                         "); choose another folder with --out, or drop it with --overwrite");
      states[name] = held.state;
    }
    return states;
  }

  // The folder's own table must not lose what it has.
  void check_folder(const std::vector<std::string>& wanted) const {
    if (std::filesystem::exists(std::filesystem::path(out) / kModelFile) || Checkpoints(out).any())
      throw UsageError(out +
                       ": holds a training, not a comparison; choose another folder with --out");
    if (overwrite) return;
    const std::string drop = "; choose another folder with --out, or drop it with --overwrite";
    if (!std::filesystem::exists(out + "/results.json")) return;
    const json before = read_results(out);
    for (const auto& o : before.at("objectives")) {
      const std::string name = o.value("objective", "");
      if (std::find(wanted.begin(), wanted.end(), name) == wanted.end())
        throw UsageError(out + ": holds a comparison that has " + name + ", too" + drop);
      const bool several = o.contains("over_seeds");
      const std::size_t had = several ? o.at("over_seeds").begin()->at("runs").size() : 1;
      if (several != (seeds > 1) || had > static_cast<std::size_t>(seeds))
        throw UsageError(out + ": holds a comparison with " +
                         (several ? "--seeds, of which " + std::to_string(had) + " are done"
                                  : std::string("one seed")) +
                         drop);
    }
  }

  // So that a comparison that is stopped can go on where it was.
  void drop_all(const std::vector<std::string>& wanted) const {
    std::list<std::pair<std::string, RunLock>> held;
    for (std::int64_t i = 0; i < seeds; ++i)
      for (const auto& name : wanted) {
        const std::string run = folder_of(options.seed + i) + "/" + name;
        if (std::filesystem::exists(run))
          held.emplace_back(std::piecewise_construct, std::forward_as_tuple(run),
                            std::forward_as_tuple(run));
      }
    for (const char* name : {"results.json", "report.html"})
      std::filesystem::remove(std::filesystem::path(out) / name);
    for (const auto& [run, lock] : held) remove_training(run, options);
  }

  static json one_run(const RunOptions& o, const Task& task, const std::string& run,
                      HeldRun::State held) {
    if (held == HeldRun::kFinished) {
      std::cerr << o.objective << ": finished before, in " << run << "\n";
      return read_results(run).at("objectives").at(0);
    }
    if (held == HeldRun::kUnfinished)
      return train_run(read_config(run + "/config.toml"), task, run, Start::kResume);
    return train_run(o, task, run, Start::kAnew);
  }

  void run(const CLI::App& command) {
    apply_config(command, config, options);
    auto wanted = objectives_to_run();
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
    if (seeds < 1) throw UsageError("--seeds: expected at least 1, got " + std::to_string(seeds));
    for (const auto& name : wanted)
      if (std::count(wanted.begin(), wanted.end(), name) > 1)
        throw UsageError("--objectives: " + name + " is listed twice; expected it once");
    if (options.unknown.empty() && options.ood_data.empty())
      throw UsageError(
          "expected OOD samples to compare by: --unknown CLASSES or --ood-data NAME=PATH");
    set_threads(options.threads);
    open_device(options.device);  // before the first tensor
    make_run_folder(out);
    const RunLock lock(out);
    RunOptions shared = options;
    shared.objective = names;
    json results;
    std::map<std::string, std::vector<json>> runs;
    std::string diverged;
    shared.make_absolute(/*outliers_are_path=*/false);
    check_folder(wanted);
    const auto task_of = [&](std::int64_t i) {
      shared.seed = options.seed + i;
      return make_task(task_options(shared));
    };
    // Before the first training, so that nothing is lost by a mistake in the settings.
    std::optional<Task> only;
    std::vector<std::map<std::string, HeldRun::State>> held;
    for (std::int64_t i = 0; i < seeds; ++i) {
      Task task = task_of(i);
      if (i == 0 && names == "all" && task.classes() < 2)
        std::erase_if(wanted, [](const auto& n) { return get_objective(n).classifies; });
      held.push_back(held_runs(wanted, shared, task));
      if (i == 0) results = results_header(shared, task);
      if (seeds == 1) only = std::move(task);
    }
    if (overwrite) drop_all(wanted);
    shared.seed = options.seed;
    write_file(out + "/config.toml", to_toml(shared));
    for (std::int64_t i = 0; i < seeds; ++i) {
      const Task task = only ? std::move(*only) : task_of(i);
      const std::string folder = folder_of(shared.seed);
      if (seeds > 1) make_run_folder(folder);
      for (const auto& name : wanted) {
        RunOptions o = shared;
        o.objective = name;
        try {
          runs[name].push_back(
              one_run(o, task, folder + "/" + name, held[static_cast<std::size_t>(i)].at(name)));
        } catch (const DivergedError& e) {
          diverged = with_flags(e.what());
          std::cerr << "ood compare: " << diverged << "; going on without it\n";
          continue;
        } catch (const Interrupted& e) {
          const std::string what = e.what();
          throw Interrupted(name + ": " + what.substr(0, what.find(';')) +
                            "; repeat the command to go on" +
                            (overwrite ? ", without --overwrite" : ""));
        }
        write_results(results, runs);
      }
    }
    if (results.contains("objectives") && seeds == 1) {
      std::map<std::string, TestScores> scores;
      for (const auto& [name, of_seeds] : runs) {
        if (of_seeds.empty()) continue;  // diverged
        const std::string run = folder_of(options.seed) + "/" + name;
        scores[name] = load_test_scores(run, run_id(read_config(run + "/config.toml")));
      }
      add_differences(
          results["objectives"], scores,
          random_bits(static_cast<std::uint64_t>(options.seed), Purpose::kBootstrap, 2, 0));
      write_tables(results);
    }
    if (results.contains("objectives"))
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
      ->add_option("--seeds", state->seeds,
                   "train with N seeds from --seed on; mean, spread and every run are reported")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--overwrite", state->overwrite,
                    "train anew what the folder holds; without it unfinished trainings go on and "
                    "finished ones are taken as they are");
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
