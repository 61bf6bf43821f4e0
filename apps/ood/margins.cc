#include <algorithm>
#include <cstdio>

#include "apps/ood/commands.h"
#include "ood/errors.h"
#include "ood/metrics/detection.h"
#include "ood/torch.h"
#include "ood/train/evaluate.h"

namespace ood::app {
namespace {

struct Margins {
  UsedRun used;

  // Energies are -logsumexp of the logits (Liu et al. 2020). Their hinges are max(0, E - m_in)^2 on
  // ID data and max(0, m_out - E)^2 on outliers: margins inside both distributions leave about half
  // of each to be pushed apart.
  void measure() const {
    const auto loaded = used.load([](RunOptions&) {});
    const Task& task = loaded.task;
    if (task.train_outliers.size() == 0)
      throw UsageError(used.folder +
                       ": was trained without outliers; expected a run with --outliers or "
                       "--synthetic-outliers");
    const auto [id, outliers] = energies_of(*loaded.trained.model.network, task,
                                            held_out_seed(loaded.options), "the training data");
    std::printf("energy (-logsumexp)   5 %%      50 %%     95 %%\n");
    for (const auto& [name, e] : {std::pair{"ID", &id}, std::pair{"outliers", &outliers}})
      std::printf("%-18s %8.2f %8.2f %8.2f\n", name, threshold_at(*e, 0.05), threshold_at(*e, 0.5),
                  threshold_at(*e, 0.95));
    const double in = threshold_at(id, 0.5), out = threshold_at(outliers, 0.5);
    if (in >= out)
      std::printf(
          "ID energies are not below those of outliers; with these margins both hinges "
          "start active\n");
    std::printf(
        "proposed, at the medians: --objective.margin_in %.2f --objective.margin_out %.2f\n"
        "for `ood train --objective energy_regularized`; `ood compare` has them as "
        "--energy_regularized.margin_in and .margin_out\n",
        std::min(in, out), std::max(in, out));
  }
};

}  // namespace

void add_margins(CLI::App& app) {
  auto* command = app.add_subcommand(
      "margins",
      "measure the energies of a run's ID and outlier data, propose margin_in and margin_out");
  auto state = std::make_shared<Margins>();
  state->used.add(*command);
  command->footer(
      "By the held-out part of the training data; test data plays no part.\n"
      "Example:\n  ood margins runs/ce");
  command->callback([state] { state->measure(); });
}

}  // namespace ood::app
