#include "ood/models/classifier.h"

namespace ood {

void Classifier::freeze() {
  frozen_ = true;
  for (auto& p : named_parameters())
    if (!is_of_head(p.key())) p.value().requires_grad_(false);
  train(is_training());
}

void Classifier::train(bool on) {
  Module::train(on);
  if (!frozen_) return;
  for (const auto& child : children())
    if (child.get() != fc_.ptr().get()) child->train(false);
}

}  // namespace ood
