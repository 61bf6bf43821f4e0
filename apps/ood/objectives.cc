#include <iostream>
#include <sstream>

#include "apps/ood/commands.h"
#include "ood/objectives/registry.h"

namespace ood::app {
namespace {

void print_table() {
  for (const ObjectiveEntry* e : objectives()) {
    std::cout << e->name << "\n  " << e->summary << "\n  " << e->formula
              << "\n  score: " << e->score << "; OOD labels: " << e->ood_labels << "\n  "
              << e->paper << "\n";
    for (const ParameterEntry& p : e->parameters)
      std::cout << "  --objective." << p.name << " " << p.default_value << "  " << p.help << " ("
                << p.source << ")\n";
    std::cout << "\n";
  }
}

}  // namespace

void add_objectives(CLI::App& app) {
  auto* command = app.add_subcommand("objectives", "list the objectives and their parameters");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "as JSON");
  command->footer("Example:\n  ood objectives --json");
  command->callback([json] {
    if (*json)
      std::cout << objectives_json() << "\n";
    else
      print_table();
  });
}

}  // namespace ood::app
