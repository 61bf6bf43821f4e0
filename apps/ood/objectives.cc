#include <iostream>

#include "apps/ood/commands.h"
#include "apps/ood/parameter_text.h"
#include "ood/registry/registry.h"

namespace ood::app {
namespace {

void print_table() {
  for (const ObjectiveEntry* e : objectives()) {
    std::cout << e->name << "\n  " << e->summary << "\n  " << e->formula
              << "\n  score: " << e->score << "; OOD labels: " << e->ood_labels << "\n  "
              << e->paper << "\n";
    std::cout << parameter_lines("objective", e->parameters) << "\n";
  }
}

std::string arguments(const ObjectiveEntry& e) {
  std::string all;
  for (const auto& input : e.slice.inputs) all += "`" + std::string(input.name) + "`, ";
  all += "`" + std::string(e.slice.target) + "`";
  if (e.slice.outliers_through_head) all += ", `last`";
  // Of other inputs the formula has names of its own.
  return all + (e.input.starts_with("minus") ? "; x are " + std::string(e.input) : "");
}

// docs/objectives.md is this.
void print_markdown() {
  std::cout << "# Objectives\n\nWritten by `ood objectives --markdown`; do not edit. x are the "
               "logits of a sample, y its label,\nF its features before the last layer; ID samples "
               "have labels from 0 on, OOD samples labels below 0. Parameters are the program's "
               "flags; a class in C++ or\nPython has those of the loss itself, not what steers a "
               "training (warm-up, start, the weight beside\nan added cross-entropy).\n\n| "
               "objective | score | OOD labels |\n|---|---|---|\n";
  for (const ObjectiveEntry* e : objectives())
    std::cout << "| [" << e->name << "](#" << e->name << ") | " << e->score << " | "
              << e->ood_labels << " |\n";
  for (const ObjectiveEntry* e : objectives()) {
    std::cout << "\n## " << e->name << "\n\n"
              << e->summary << "\n\n    " << e->formula << "\n\n- Class: `" << e->class_name
              << "`, called with " << arguments(*e) << "\n- Paper: " << e->paper
              << "\n- Score: " << e->score << "\n- OOD labels: " << e->ood_labels << "\n- Mean: "
              << (e->row.combine != nullptr || !e->per_row ? "of the batch, no value per row"
                  : e->balance == Balance::kWholeBatch     ? "over the whole batch"
                                                           : "each term over its own population")
              << "\n";
    if (e->pretrained)
      std::cout << "- Pretraining: as an autoencoder, of pictures and where no weights are given "
                   "(`--pretrain`)\n";
    if (!e->pitfalls.empty()) std::cout << "- Pitfall: " << e->pitfalls << "\n";
    if (!e->id_energy.empty())
      std::cout << "- A training measures " << e->id_energy << " and " << e->outlier_energy
                << " unless they are given\n";
    if (!e->weight_of_classes.empty())
      std::cout << "- A training divides " << e->weight_of_classes
                << " by the number of classes unless it is given\n";
    std::cout << parameter_markdown(e->parameters);
  }
}

}  // namespace

void add_objectives(CLI::App& app) {
  add_list(app, "objectives", "list the objectives and their parameters", objectives_json,
           print_markdown, print_table);
}

}  // namespace ood::app
