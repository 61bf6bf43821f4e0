#include "ood/train/setup_warnings.h"

#include <algorithm>

#include "ood/torch.h"

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

}  // namespace ood
