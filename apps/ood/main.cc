#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>

#include "apps/ood/commands.h"
#include "apps/ood/memory.h"
#include "apps/ood/terminal.h"
#include "ood/distributed/ranks.h"
#include "ood/errors.h"
#include "ood/kernels/simd_level.h"
#include "ood/registry/text.h"
#include "ood/version.h"

namespace {

void open_plugin(const std::string& path) {
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
    throw ood::UsageError("--plugin: " + std::string(dlerror()));
}

void load_plugin(const std::string& path) {
  open_plugin(path);
  // `ood launch` starts others that need it, too.
  const char* before = std::getenv("OOD_PLUGINS");
  const std::string all = before == nullptr ? path : path + ":" + before;
  ::setenv("OOD_PLUGINS", all.c_str(), 1);
}

// Plug-ins add objectives, and objectives add flags: they are loaded before the command line is
// read.
void load_plugins(int argc, char** argv) {
  if (const char* list = std::getenv("OOD_PLUGINS"))
    for (const auto& path : ood::app::split(list, ':')) open_plugin(path);
  const std::string flag = "--plugin";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == flag && i + 1 < argc) load_plugin(argv[i + 1]);
    if (argument.rfind(flag + "=", 0) == 0) load_plugin(argument.substr(flag.size() + 1));
  }
}

std::string unknown_command(const CLI::App& app, const std::string& given) {
  std::vector<std::string> names;
  for (const CLI::App* s : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(s->get_name());
  return "unknown command " + given +
         ood::did_you_mean(given, {names.begin(), names.end()},
                           "; expected " + c10::Join(", ", names));
}

std::vector<std::string> unknown_arguments(const CLI::App& app) {
  const auto used = app.get_subcommands();
  const auto extra = used.empty() ? std::vector<std::string>() : used.front()->remaining(true);
  return extra.empty() ? app.remaining(true) : extra;
}

// The first argument that nobody knows, with the flag it may have been meant to be.
std::string unknown_argument(const CLI::App& app) {
  const auto used = app.get_subcommands();
  const CLI::App* command = used.empty() ? &app : used.front();
  const auto extra = unknown_arguments(app);
  if (extra.empty()) return "unexpected argument";
  const std::string given = extra.front().substr(0, extra.front().find('='));
  if (!given.starts_with('-'))
    return used.empty() ? unknown_command(app, given) : "unexpected argument " + given;
  std::vector<std::string> names;
  for (const CLI::Option* o : command->get_options())
    for (const auto& n : o->get_lnames()) names.push_back("--" + n);
  return "unknown flag " + given +
         ood::did_you_mean(given, {names.begin(), names.end()}, "; see --help");
}

// What CLI11 says of a value, in our words.
std::string wrong_value(const CLI::App& app, const std::string& what) {
  const std::string twice = ": At Most 1 required but received ";
  if (const auto at = what.find(twice); at != std::string::npos)
    return what.substr(0, at) + ": is given " + what.substr(at + twice.size()) +
           " times; expected it once";
  const std::string convert = "Could not convert: ";
  if (what.rfind(convert, 0) != 0) return what;
  const auto equals = what.find(" = ");
  if (equals == std::string::npos) return what;
  const std::string flag = what.substr(convert.size(), equals - convert.size());
  const auto used = app.get_subcommands();
  const CLI::Option* option = used.empty() ? nullptr : used.front()->get_option_no_throw(flag);
  return flag + ": expected a " +
         (option != nullptr && option->get_type_name() == "N" ? "whole " : "") + "number, got " +
         what.substr(equals + 3);
}

constexpr const char* kOutOfMemory =
    "out of memory; try a smaller --batch-size, --image-size or --limit-train";

// torchrun shows what a worker leaves there.
void leave_for_launcher(const std::string& message) {
  const char* path = std::getenv("TORCHELASTIC_ERROR_FILE");
  if (path == nullptr || *path == 0) return;
  const nlohmann::json report = {
      {"message",
       {{"message", message}, {"extraInfo", {{"timestamp", std::to_string(std::time(nullptr))}}}}}};
  std::ofstream(path) << report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

int fail(const std::string& command, const std::string& message, int status) {
  const std::string line =
      ood::app::printable(ood::app::with_flags(message.substr(0, message.find('\n'))));
  const auto& ranks = ood::ranks();
  const std::string who = ranks.alone() ? "" : "rank " + std::to_string(ranks.rank()) + ": ";
  std::cerr << "ood" + (command.empty() ? "" : " " + command) + ": " + who + line + "\n";
  leave_for_launcher(line);
  return status;
}

// What several processes would do over each other.
void check_ranks(const std::string& command) {
  for (const char* harmless : {"train", "doctor", "objectives", "scores"})
    if (command == harmless) return;
  if (const auto size = ood::environment().size; size > 1)
    throw ood::UsageError("expected to be one process, WORLD_SIZE is " + std::to_string(size) +
                          "; of the commands only `ood train` is spread over several");
}

// A file that is opened while 0, 1 or 2 is free would get what is printed.
void open_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
}

int run(int argc, char** argv) {
  open_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is a failed write
  ood::app::hold_memory();
  ood::app::Terminal terminal;
  ood::set_listener(&terminal);
  CLI::App app{
      "Train classifiers that know what they do not know: out-of-distribution objectives,\n"
      "measured and compared on your data.",
      "ood"};
  app.set_version_flag("--version", ood::kVersion);
  std::vector<std::string> plugins;
  app.add_option("--plugin", plugins, "a shared library with further objectives")
      ->type_name("FILE")
      ->allow_extra_args(false);
  app.require_subcommand(1);
  app.footer(
      "Exit status: 0 done, 1 out of memory or another failure, 2 usage, 3 data, 4 diverged, 5 "
      "processes lost one another, 130 interrupted.\n"
      "Environment: OOD_SIMD=scalar|sse4|avx2|avx512, OOD_PLUGINS=FILE:FILE");
  std::string command;
  try {
    load_plugins(argc, argv);
    if (const auto error = ood::kernels::simd_environment_error(); !error.empty())
      throw ood::UsageError(std::string(error));
    ood::app::add_train(app);
    ood::app::add_eval(app);
    ood::app::add_compare(app);
    ood::app::add_objectives(app);
    ood::app::add_score(app);
    ood::app::add_threshold(app);
    ood::app::add_scores(app);
    ood::app::add_fit(app);
    ood::app::add_margins(app);
    ood::app::add_doctor(app);
    ood::app::add_launch(app);
    ood::app::add_embed(app);
    const bool asks_for_help = std::any_of(
        argv, argv + argc, [](const std::string& a) { return a == "--help" || a == "-h"; });
    for (CLI::App* s : app.get_subcommands([](CLI::App*) { return true; }))
      s->preparse_callback([&command, s, asks_for_help](std::size_t) {
        command = s->get_name();
        if (!asks_for_help) check_ranks(command);
      });
    app.parse(argc, argv);
    if (!std::cout.flush() || std::fflush(stdout) != 0)
      throw ood::DataError("standard output: cannot be written: " +
                           std::string(std::strerror(errno)));
  } catch (const CLI::ExtrasError&) {
    return fail(command, unknown_argument(app), 2);
  } catch (const CLI::RequiredError& e) {
    // "A subcommand is required" hides the mistyped one.
    for (int i = 1; command.empty() && i < argc; ++i)
      if (argv[i][0] != '-' && (i == 1 || std::string(argv[i - 1]) != "--plugin"))
        return fail(command, unknown_command(app, argv[i]), 2);
    // What is missing may be what a mistyped flag was to say, or took.
    if (const auto extra = unknown_arguments(app); !extra.empty() && extra.front().starts_with('-'))
      return fail(command, unknown_argument(app), 2);
    return fail(command, command.empty() ? "expected a command; see --help" : e.what(), 2);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    return fail(command, wrong_value(app, e.what()), 2);
  } catch (const ood::app::ExitStatus& e) {
    return e.status;
  } catch (const ood::SaidElsewhere& e) {
    return e.kind == ood::SaidElsewhere::kUsage ? 2 : e.kind == ood::SaidElsewhere::kData ? 3 : 1;
  } catch (const ood::UsageError& e) {
    return fail(command, e.what(), 2);
  } catch (const ood::DataError& e) {
    return fail(command, e.what(), 3);
  } catch (const ood::DivergedError& e) {
    return fail(command, e.what(), 4);
  } catch (const ood::DistributedError& e) {
    return fail(command, e.what(), 5);
  } catch (const ood::Interrupted& e) {
    return fail(command, e.what(), 130);
  } catch (const c10::Error& e) {
    if (ood::is_out_of_memory(e.what_without_backtrace())) return fail(command, kOutOfMemory, 1);
    return fail(command, e.what_without_backtrace(), 1);
  } catch (const std::bad_alloc&) {
    return fail(command, kOutOfMemory, 1);
  } catch (const std::exception& e) {
    return fail(command, e.what(), 1);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int status = run(argc, argv);
  if (ood::ranks().alone()) return status;
  // Gloo's threads may still wait for ranks that have ended.
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(status);
}
