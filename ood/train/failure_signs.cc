#include "ood/train/failure_signs.h"

#include <algorithm>
#include <cmath>

#include "ood/data/random.h"
#include "ood/metrics/detection.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

double balanced_accuracy(const at::Tensor& evidence, const at::Tensor& labels,
                         std::int64_t classes) {
  double sum = 0, seen = 0;
  for (const auto& a : class_accuracy(evidence, labels, classes)) {
    sum += a.value_or(0);
    seen += a.has_value();
  }
  return sum / seen;
}

std::string percent(double share) { return short_number(100 * share) + " %"; }

}  // namespace

std::vector<std::string> failure_signs(Classifier& network, const Objective& objective,
                                       const Task& task, const FittedScores& scores,
                                       const HeldOut& held_out) {
  std::vector<std::string> signs;
  // Fewer say too little.
  constexpr std::int64_t kEnough = 20;
  const bool enough = task.validation.size() >= kEnough;
  const Samples& known = enough ? task.validation : task.train;
  const std::string where = enough ? "held-out" : "training";
  const auto output = enough ? held_out.output : run_network(network, task, known);
  const auto readout = objective.readout(output);
  if (readout.evidence.defined() && task.classes() > 1) {
    // Means over classes: naming one class for all gives 1 / K, however unequal they are.
    const double got = balanced_accuracy(readout.evidence, known.labels, task.classes());
    const double chance = 1 / static_cast<double>(task.classes());
    const double error = std::sqrt(chance * (1 - chance) / static_cast<double>(known.size()));
    if (got <= chance + std::min(3 * error, (1 - chance) / 3))
      signs.push_back("accuracy " + percent(got) + " in the mean of the classes on " + where +
                      " data, where chance is " + percent(chance));
  }
  // A network that puts all inputs into one point; a classifier may be certain of all of them.
  if (!readout.evidence.defined() && known.size() >= kEnough) {
    const auto id = score_numbers(scores.compute(scores.run_score(objective), objective, output),
                                  where + " data");
    const auto [low, high] = std::minmax_element(id.begin(), id.end());
    if (*high - *low <= 1e-6 * std::abs(*high))
      signs.push_back("scores of " + where + " data are constant");
  }
  const Samples& outliers =
      task.validation_outliers.size() >= kEnough ? task.validation_outliers : task.train_outliers;
  if (objective.entry().uses_ood && outliers.size() >= kEnough) {
    const std::string own(objective.entry().score);
    const auto of = [&](const NetworkOutput& o, const char* what) {
      return score_numbers(scores.compute(own, objective, o), what);
    };
    const auto interval =
        auroc_interval(of(output, "held-out data"),
                       of(run_network(network, task, outliers), "the training outliers"),
                       random_bits(0, Purpose::kBootstrap, 1, 0));
    if (interval.high < 0.6)
      signs.push_back("AUROC of its own score against the training's own outliers at most " +
                      short_number(interval.high) + ", where 0.5 is guessing");
  }
  return signs;
}

}  // namespace ood
