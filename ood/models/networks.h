#pragma once

#include "ood/models/classifier.h"

namespace ood {

/// Three convolutions and a hidden layer to 64 features; for pictures from 4x4 on.
std::shared_ptr<Classifier> make_small_cnn(const NetworkShape& shape);

/// Two hidden layers of 256 and 64 units on the flattened input.
std::shared_ptr<Classifier> make_mlp(const NetworkShape& shape);

}  // namespace ood
