#include "ood/train/setup_warnings.h"

#include <algorithm>

#include "ood/registry/listener.h"
#include "ood/torch.h"
#include "ood/train/results_header.h"

namespace ood {

std::vector<std::string> setup_warnings(const ObjectiveEntry& entry, const Classifier& network) {
  std::vector<std::string> out;
  const std::string name(entry.name);
  const auto of_network = network.named_parameters();
  const bool only_last_layer = std::all_of(of_network.begin(), of_network.end(), [](const auto& p) {
    return Classifier::is_of_head(p.key()) || !p.value().requires_grad();
  });
  if (entry.trains_features && only_last_layer)
    out.push_back(
        name +
        ": nothing that makes the network's features is trained, so the part of the loss "
        "that is on them trains nothing; choose a network with a hidden layer, as `model` "
        "mlp, and no `freeze`");
  if (entry.without_bias)
    for (const auto& p : network.named_parameters())
      if (p.value().requires_grad() && p.key().ends_with("bias")) {
        out.push_back(
            name + ": the network has the bias " + p.key() +
            ", with which it may map every input onto the center; build it without biases");
        break;
      }
  return out;
}

void warn_of_imbalance(const Task& task, bool balanced) {
  if (balanced) return;
  const auto classes = class_counts(task);
  const auto [least, most] = std::minmax_element(
      classes.begin(), classes.end(), [](auto& a, auto& b) { return a.train < b.train; });
  if (most->train >= 10 * least->train)
    listener().warn("the classes are unbalanced: " + most->name + " has " +
                    std::to_string(most->train) + " training samples, " + least->name + " has " +
                    std::to_string(least->train) + "; `class-balance` draws them equally often");
}

}  // namespace ood
