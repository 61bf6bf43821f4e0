#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>
#include <sstream>

#include "apps/ood/commands.h"
#include "apps/ood/terminal.h"
#include "ood/errors.h"
#include "ood/registry/registry.h"

namespace ood::app {
namespace {

// What a text stands for, in the help.
std::string text_type(const std::string& flag, const std::string& by_default) {
  if (flag == "init") return "RUN";
  if (flag == "weights") return "FILE";
  if (flag == "alpha") return "COLOUR";
  return by_default.empty() ? "LIST" : "TEXT";
}

struct FlagMaker {
  CLI::App& command;
  const std::vector<std::string>& without;

  template <class T>
  void operator()(const char* name, T& value, const OptionHelp& help) const {
    if (std::find(without.begin(), without.end(), name) != without.end()) return;
    if constexpr (std::is_same_v<T, bool>) {
      command.add_flag("--" + std::string(name), value, with_flags(help.text));
    } else {
      add_value(name, value, help);
    }
  }

 private:
  template <class T>
  void add_value(const char* name, T& value, const OptionHelp& help) const {
    constexpr bool kNumber = std::is_same_v<T, std::int64_t> || std::is_same_v<T, double>;
    constexpr double kManyMore = 1e6;  // than anybody wants
    const bool bounded = kNumber && (help.low > 0 || help.high < kManyMore);
    const auto text = with_flags(help.text) + (bounded ? "; " + help.range() : "");
    auto* option = command.add_option("--" + std::string(name), value, text);
    if constexpr (std::is_same_v<T, std::vector<std::string>>)
      option->allow_extra_args(false)->type_name("NAME=PATH");
    else if constexpr (std::is_same_v<T, std::string>)
      option->type_name(text_type(name, value))->capture_default_str();
    else
      option->type_name(std::is_same_v<T, double> ? "X" : "N")->capture_default_str();
  }
};

// What a training takes for a parameter that is not given, see recipe.h.
std::string default_text(const ObjectiveEntry& entry, const ParameterEntry& p) {
  if (p.name == entry.id_energy || p.name == entry.outlier_energy) return "measured";
  return c10::str(p.default_value, p.name == entry.weight_of_classes ? " / classes" : "");
}

}  // namespace

void add_run_options(CLI::App& command, RunOptions& options,
                     const std::vector<std::string>& without) {
  visit_options(options, FlagMaker{command, without});
}

void add_reading_options(CLI::App& command, RunOptions& options) {
  const std::set<std::string> reading = {"image-size", "resize", "strict",
                                         "max-pixels", "alpha",  "cache"};
  std::vector<std::string> others;
  visit_options(options, [&](const char* name, auto&, const OptionHelp&) {
    if (reading.count(name) == 0) others.emplace_back(name);
  });
  add_run_options(command, options, others);
}

void apply_config(const CLI::App& command, const std::string& path, RunOptions& options) {
  if (path.empty()) return;
  std::set<std::string> given;
  visit_options(options, [&](const char* key, auto&, const OptionHelp&) {
    const auto* option = command.get_option_no_throw("--" + std::string(key));
    if (option != nullptr && option->count() > 0) given.insert(key);
  });
  merge(options, read_config(path), given);
}

void add_parameter_flags(CLI::App& command, RunOptions& options) {
  for (const ObjectiveEntry* e : objectives())
    for (const ParameterEntry& p : e->parameters)
      command
          .add_option_function<double>(
              "--" + std::string(e->name) + "." + std::string(p.name),
              [&options, e, p](const double& value) {
                options.parameters[std::string(e->name)][std::string(p.name)] = value;
              },
              with_flags(std::string(p.help)) + "; " + p.range())
          ->type_name("X")
          ->default_str(default_text(*e, p))
          ->group("Parameters of the objectives");
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> items;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, separator);)
    if (!item.empty()) items.push_back(item);
  return items;
}

void add_device(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "that the network computes on: cpu, cuda or cuda:N")
      ->type_name("TEXT")
      ->capture_default_str();
}

void add_list(CLI::App& app, const std::string& name, const std::string& help,
              std::string (*json)(), void (*markdown)(), void (*table)()) {
  auto* command = app.add_subcommand(name, help);
  auto as_json = std::make_shared<bool>(false), as_markdown = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "as JSON");
  command->add_flag("--markdown", *as_markdown, "as docs/" + name + ".md");
  command->footer("Example:\n  ood " + name + " --json");
  command->callback([=] {
    if (*as_markdown)
      markdown();
    else if (*as_json)
      std::cout << json() << "\n";
    else
      table();
  });
}

void UsedRun::add(CLI::App& command) {
  command.add_option("RUN", folder, "run folder of `ood train`")->required();
  command.add_option("--data", data, "where the run's data is now; default: where it was")
      ->type_name("PATH");
  add_device(command, device);
  add_threads(command, threads);
}

LoadedRun UsedRun::load(const std::function<void(RunOptions&)>& change,
                        bool few_of_training) const {
  return load_run(
      folder,
      [&](RunOptions& o) {
        if (!data.empty()) o.data = data;
        o.threads = threads.value_or(o.threads);
        set_threads(o.threads);
        change(o);
      },
      device, few_of_training);
}

void check_output(const std::string& out, const std::string& data) {
  namespace fs = std::filesystem;
  std::error_code none;
  const auto inside =
      fs::weakly_canonical(out, none).lexically_relative(fs::weakly_canonical(data, none));
  // A table of an earlier call may lie among the data.
  const bool is_data = fs::is_regular_file(out, none) && !inside.empty() &&
                       *inside.begin() != ".." && inside.extension() != ".csv";
  if (is_data || fs::equivalent(out, data, none))
    throw UsageError("--out: expected another place than that of the data, got " + out);
}

void set_threads(std::int64_t threads) {
  constexpr std::int64_t kMost = 4096;
  if (threads < 0 || threads > kMost)
    throw UsageError("--threads: expected 0 to 4096, got " + std::to_string(threads));
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

}  // namespace ood::app
