#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include "apps/ood/commands.h"
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
  void operator()(const char* name, T& value, const char* help) const {
    if (std::find(without.begin(), without.end(), name) != without.end()) return;
    if constexpr (std::is_same_v<T, bool>) {
      command.add_flag("--" + std::string(name), value, help);
    } else {
      add_value(name, value, help);
    }
  }

 private:
  template <class T>
  void add_value(const char* name, T& value, const char* help) const {
    auto* option = command.add_option("--" + std::string(name), value, help);
    if constexpr (std::is_same_v<T, std::vector<std::string>>)
      option->allow_extra_args(false)->type_name("NAME=PATH");
    else if constexpr (std::is_same_v<T, std::string>)
      option->type_name(text_type(name, value))->capture_default_str();
    else
      option->type_name(std::is_same_v<T, double> ? "X" : "N")->capture_default_str();
  }
};

std::string text_of(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

// What a training takes for a parameter that is not given, see recipe.h.
std::string default_text(const ObjectiveEntry& entry, const ParameterEntry& p) {
  if (p.name == entry.id_energy || p.name == entry.outlier_energy) return "measured";
  return text_of(p.default_value) + (p.name == entry.weight_of_classes ? " / classes" : "");
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
  visit_options(options, [&](const char* name, auto&, const char*) {
    if (reading.count(name) == 0) others.emplace_back(name);
  });
  add_run_options(command, options, others);
}

void apply_config(const CLI::App& command, const std::string& path, RunOptions& options) {
  if (path.empty()) return;
  std::set<std::string> given;
  visit_options(options, [&](const char* key, auto&, const char*) {
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
              std::string(p.help) + "; " + p.range())
          ->type_name("X")
          ->default_str(default_text(*e, p))
          ->group("Parameters of the objectives");
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> items;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');)
    if (!item.empty()) items.push_back(item);
  return items;
}

void add_device(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "that the network computes on: cpu, cuda or cuda:N")
      ->type_name("TEXT")
      ->capture_default_str();
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
