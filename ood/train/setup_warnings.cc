#include "ood/train/setup_warnings.h"

#include <algorithm>
#include <cmath>

#include "ood/torch.h"

namespace ood {
namespace {

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

double parameter(const ObjectiveEntry& entry, const std::vector<double>& values,
                 std::string_view name) {
  for (std::size_t i = 0; i < entry.parameters.size(); ++i)
    if (entry.parameters[i].name == name) return values[i];
  return 0;
}

// One line where a hinge is violated by none or by all of these rows.
void check_hinge(const std::string& objective, const std::string& margin, double value,
                 const at::Tensor& violated, const char* rows, const at::Tensor& energies,
                 std::vector<std::string>& out) {
  if (violated.numel() == 0) return;
  const bool all = violated.all().item<bool>();
  if (!all && violated.any().item<bool>()) return;
  out.push_back(objective + ": " + margin + " " + number(value) + " is violated by " +
                (all ? "every" : "no") + " " + rows + " row of the first batch (energies " +
                number(energies.min().item<double>()) + " to " +
                number(energies.max().item<double>()) + "), so the hinge " +
                (all ? "pulls on all rows alike" : "has no gradient") +
                "; `ood margins RUN` proposes margins from a trained run");
}

// The smallest cross-entropy of C logits of norm 1 / tau: they sum to 0 and all but one are equal.
double logit_norm_floor(double tau, double classes) {
  return std::log1p((classes - 1) * std::exp(-std::sqrt(classes / (classes - 1)) / tau));
}

}  // namespace

std::vector<std::string> setup_warnings(const ObjectiveEntry& entry, const Classifier& network,
                                        const Objective& objective,
                                        const std::vector<at::Tensor>& optimized) {
  std::vector<std::string> out;
  const std::string name(entry.name);
  for (const auto& p : objective.named_parameters()) {
    const bool held = std::any_of(optimized.begin(), optimized.end(),
                                  [&](const at::Tensor& t) { return t.is_same(p.value()); });
    if (p.value().requires_grad() && !held)
      out.push_back(name + ": no optimizer holds its parameter " + p.key() +
                    ", which then stays as it was drawn; give the objective's parameters() to the "
                    "optimizer, too");
  }
  const auto of_network = network.named_parameters();
  const bool only_last_layer = std::all_of(of_network.begin(), of_network.end(), [](const auto& p) {
    return p.key().compare(0, 3, "fc.") == 0;
  });
  if (entry.trains_features && only_last_layer)
    out.push_back(name +
                  ": the network's features are its inputs, so the part of the loss that is on "
                  "features trains nothing; choose a network with a hidden layer, as --model mlp");
  if (entry.without_bias)
    for (const auto& p : network.named_parameters())
      if (p.key().size() >= 4 && p.key().compare(p.key().size() - 4, 4, "bias") == 0) {
        out.push_back(
            name + ": the network has the bias " + p.key() +
            ", with which it may map every input onto the center; build it without biases");
        break;
      }
  return out;
}

std::vector<std::string> first_batch_warnings(const ObjectiveEntry& entry,
                                              const std::vector<double>& parameters,
                                              const at::Tensor& logits, const at::Tensor& target) {
  const torch::NoGradGuard no_grad;
  std::vector<std::string> out;
  const std::string name(entry.name);
  if (entry.name == "energy_regularized") {
    const auto energy = -logits.logsumexp(1);
    const double in = parameter(entry, parameters, "margin_in");
    const double outside = parameter(entry, parameters, "margin_out");
    const auto id = energy.masked_select(target.ge(0)), ood = energy.masked_select(target.lt(0));
    check_hinge(name, "margin_in", in, id.gt(in), "ID", id, out);
    check_hinge(name, "margin_out", outside, ood.lt(outside), "OOD", ood, out);
  }
  if (entry.name == "logit_norm") {
    const double tau = parameter(entry, parameters, "tau");
    const auto classes = static_cast<double>(logits.size(1));
    const double floor = logit_norm_floor(tau, classes);
    if (classes > 1 && floor > 0.5 * std::log(classes))
      out.push_back(name + ": with tau " + number(tau) + " the loss of " + number(classes) +
                    " classes cannot fall below " + number(floor) + " (log C is " +
                    number(std::log(classes)) +
                    "), so little is learnt; set a smaller tau, the paper's is 0.04");
  }
  return out;
}

}  // namespace ood
