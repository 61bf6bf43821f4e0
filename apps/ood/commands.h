#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ood/train/loaded_run.h"
#include "ood/train/run_options.h"

/// The sub-commands of the program, one file each. A command adds itself to `app` and runs in its
/// callback; it throws ood::Error for what a user can mend.
namespace ood::app {

/// A command that ends with a status and has said why.
struct ExitStatus {
  int status;
};

void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_compare(CLI::App& app);
void add_objectives(CLI::App& app);
void add_score(CLI::App& app);
void add_scores(CLI::App& app);
void add_fit(CLI::App& app);
void add_threshold(CLI::App& app);
void add_margins(CLI::App& app);
void add_doctor(CLI::App& app);
void add_launch(CLI::App& app);
void add_embed(CLI::App& app);

/// Flags for the fields of `options`, but for those named in `without`.
void add_run_options(CLI::App& command, RunOptions& options,
                     const std::vector<std::string>& without = {});

/// Flags for those of them that say how pictures are read.
void add_reading_options(CLI::App& command, RunOptions& options);

/// Fills in what no flag of `command` has set from a configuration file; "": none.
void apply_config(const CLI::App& command, const std::string& path, RunOptions& options);

/// A flag --OBJECTIVE.PARAMETER for every parameter of every objective.
void add_parameter_flags(CLI::App& command, RunOptions& options);

/// UsageError where --out names the data themselves.
void check_output(const std::string& out, const std::string& data);

/// "a,b,c" as a list.
std::vector<std::string> split(const std::string& text, char separator = ',');

/// A command `name` that lists something: as a table, with --json, or, with --markdown, as the file of
/// that name in docs/.
void add_list(CLI::App& app, const std::string& name, const std::string& help,
              std::string (*json)(), void (*markdown)(), void (*table)());

/// A run that a command works on with its data: the argument RUN, flags that say where the data is and
/// what computes.
struct UsedRun {
  std::string folder, data, device = "cpu";
  std::optional<std::int64_t> threads;

  void add(CLI::App& command);
  /// `change`: of its options before they are used.
  LoadedRun load(const std::function<void(RunOptions&)>& change,
                 bool few_of_training = false) const;
};

/// The flag --threads.
template <class Count>
void add_threads(CLI::App& command, Count& threads) {
  command.add_option("--threads", threads, "threads; 0: one a processor")->type_name("N");
}
/// The flag --device of a command whose network only computes.
void add_device(CLI::App& command, std::string& device);
/// Sets the number of threads where one is named; call it before the first tensor is made.
void set_threads(std::int64_t threads);

}  // namespace ood::app
