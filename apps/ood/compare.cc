#include <algorithm>
#include <iostream>
#include <map>
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
#include "ood/torch.h"
#include "ood/train/checkpoint.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/held_run.h"
#include "ood/train/recipe.h"
#include "ood/train/results_header.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"
#include "ood/train/run_folder.h"
#include "ood/train/trainer.h"

namespace ood::app {
namespace {

// Highest AUROC of the run's score first, of several OOD sets and seeds their mean; what did not
// learn last.
void rank(std::vector<ObjectiveResults>& objectives) {
  const auto auroc = [](const ObjectiveResults& o) {
    double sum = 0;
    for (const auto& [set, unused] : o.ood) sum += o.auroc(set);
    return sum / static_cast<double>(o.ood.size());
  };
  std::stable_sort(objectives.begin(), objectives.end(), [&](const auto& a, const auto& b) {
    return a.learned() != b.learned() ? a.learned() : auroc(a) > auroc(b);
  });
}

// Mean and standard deviation of the AUROC of each OOD set over the runs of one objective, and every
// run's; the rest of the entry is that of the first.
ObjectiveResults add_up_seeds(const std::vector<ObjectiveResults>& runs) {
  ObjectiveResults all = runs.front();
  for (const auto& [set, unused] : all.ood) {
    OverSeeds& over = all.over_seeds[set];
    for (const auto& run : runs) over.runs.push_back(run.ood.at(set).detection.auroc);
    const auto each = torch::tensor(over.runs, torch::kDouble);
    over.mean = each.mean().item<double>();
    over.sd = over.runs.size() > 1 ? each.std().item<double>() : 0.0;
  }
  all.failure_signs.clear();
  for (const auto& run : runs)
    all.failure_signs.insert(all.failure_signs.end(), run.failure_signs.begin(),
                             run.failure_signs.end());
  return all;
}

// How far each objective is behind the best of those that learned, on the same test samples: the 95 %
// interval of the difference of their AUROCs.
void add_differences(Results& results, const std::map<std::string, TestScores>& scores,
                     std::uint64_t seed) {
  if (results.objectives.empty()) return;
  for (const auto& set : results.sets()) {
    const auto auroc = [&](const auto& o) { return o.ood.at(set).detection.auroc; };
    const ObjectiveResults* best = nullptr;
    for (const auto& o : results.objectives)
      if (o.learned() && (best == nullptr || auroc(o) > auroc(*best))) best = &o;
    if (best == nullptr) continue;
    const auto& of_best = scores.at(best->objective);
    for (auto& o : results.objectives) {
      if (&o == best) continue;
      const auto& other = scores.at(o.objective);
      const auto d =
          auroc_difference(of_best.id, of_best.ood.at(set), other.id, other.ood.at(set), seed);
      o.ood[set].behind_best = {best->objective, d.low, d.high};
    }
  }
}

struct Compare {
  RunOptions options;
  std::string names = "all", out, config;
  std::int64_t seeds = 1;
  bool overwrite = false;

  // What there is so far.
  void write_tables_of(Results& results,
                       const std::map<std::string, std::vector<ObjectiveResults>>& runs) const {
    results.objectives.clear();
    for (const auto& [name, of_seeds] : runs)
      if (!of_seeds.empty())
        results.objectives.push_back(seeds > 1 ? add_up_seeds(of_seeds) : of_seeds.front());
    rank(results.objectives);
    write_tables(results);
  }

  void write_tables(const Results& results) const {
    write_results(out + "/" + kResultsFile, results);
    write_file(out + "/" + kReportFile, report::html(results));
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
    if (!std::filesystem::exists(out + "/" + kResultsFile)) return;
    for (const auto& o : read_results(out).objectives) {
      if (std::find(wanted.begin(), wanted.end(), o.objective) == wanted.end())
        throw UsageError(out + ": holds a comparison that has " + o.objective + ", too" + drop);
      const bool several = !o.over_seeds.empty();
      const std::size_t had = several ? o.over_seeds.begin()->second.runs.size() : 1;
      if (several != (seeds > 1) || had > static_cast<std::size_t>(seeds))
        throw UsageError(out + ": holds a comparison with " +
                         (several ? "--seeds, of which " + std::to_string(had) + " are done"
                                  : std::string("one seed")) +
                         drop);
    }
  }

  // So that a comparison that is stopped can go on where it was.
  void drop_all(const std::vector<std::string>& wanted) const {
    std::map<std::string, RunLock> held;
    for (std::int64_t i = 0; i < seeds; ++i)
      for (const auto& name : wanted) {
        const std::string run = folder_of(options.seed + i) + "/" + name;
        if (std::filesystem::exists(run)) held.try_emplace(run, run);
      }
    for (const char* name : {kResultsFile, kReportFile})
      std::filesystem::remove(std::filesystem::path(out) / name);
    for (const auto& [run, lock] : held) remove_training(run, options);
  }

  static ObjectiveResults one_run(const RunOptions& o, const Task& task, const std::string& run,
                                  HeldRun::State held) {
    if (held == HeldRun::kFinished) {
      std::cerr << o.objective << ": finished before, in " << run << "\n";
      return read_results(run).objectives.front();
    }
    if (held == HeldRun::kUnfinished)
      return train_run(read_config(run + "/" + kConfigFile), task, run, Start::kResume);
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
    Results results;
    std::map<std::string, std::vector<ObjectiveResults>> runs;
    std::string diverged;
    shared.make_absolute(/*outliers_are_path=*/false);
    take_division(shared);
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
    write_file(out + "/" + kConfigFile, to_toml(shared));
    for (std::int64_t i = 0; i < seeds; ++i) {
      const Task task = only ? std::move(*only) : task_of(i);
      const std::string folder = folder_of(shared.seed);
      if (seeds > 1) make_run_folder(folder);
      for (const auto& name : wanted) {
        RunOptions o = shared;
        o.objective = name;
        try {
          auto result =
              one_run(o, task, folder + "/" + name, held[static_cast<std::size_t>(i)].at(name));
          if (seeds > 1)
            for (auto& sign : result.failure_signs)
              sign = "seed " + std::to_string(shared.seed) + ": " + sign;
          runs[name].push_back(std::move(result));
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
        write_tables_of(results, runs);
      }
    }
    if (seeds == 1) {
      std::map<std::string, TestScores> scores;
      for (const auto& [name, of_seeds] : runs) {
        if (of_seeds.empty()) continue;  // diverged
        const std::string run = folder_of(options.seed) + "/" + name;
        scores[name] = load_test_scores(run, run_id(read_config(run + "/" + kConfigFile)));
      }
      add_differences(
          results, scores,
          random_bits(static_cast<std::uint64_t>(options.seed), Purpose::kBootstrap, 2, 0));
      if (!results.objectives.empty()) write_tables(results);
    }
    if (!results.objectives.empty())
      std::cout << report::table(results) << "report: " << out << "/" << kReportFile << "\n";
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
