#pragma once

#include "ood/models/classifier.h"

namespace ood {

/// Three convolutions and a hidden layer to 64 features; for pictures from 4x4 on.
std::shared_ptr<Classifier> make_small_cnn(const NetworkShape& shape);

/// Two hidden layers of 256 and 64 units on the flattened input.
std::shared_ptr<Classifier> make_mlp(const NetworkShape& shape);

/// One layer on the flattened input, which is also the features: a head on frozen embeddings.
std::shared_ptr<Classifier> make_linear(const NetworkShape& shape);

/// ResNet-18 (He et al. 2016) in its form for 32x32 pictures: a 3x3 convolution first and no
/// pooling after it; 512 features.
std::shared_ptr<Classifier> make_resnet18(const NetworkShape& shape);

/// WideResNet 40-2 (Zagoruyko and Komodakis 2016), 128 features.
std::shared_ptr<Classifier> make_wide_resnet(const NetworkShape& shape);

}  // namespace ood
