#pragma once

#include "ood/models/classifier.h"

namespace ood {

/// Three convolutions and a hidden layer to 64 features; for pictures from 4x4 on.
std::shared_ptr<Classifier> make_small_cnn(const NetworkShape& shape);

/// Two hidden layers of 256 and 64 units on the flattened input.
std::shared_ptr<Classifier> make_mlp(const NetworkShape& shape);

/// One layer on the flattened input, which is also the features: a head on frozen embeddings.
std::shared_ptr<Classifier> make_linear(const NetworkShape& shape);

/// ResNet-18, 34 and 50 (He et al. 2016), 512, 512 and 2048 features. Pictures whose shorter side is
/// above kLargestSmall go through a 7x7 convolution of stride 2 and pooling first, as in the paper;
/// smaller ones through a 3x3 convolution and no pooling.
std::shared_ptr<Classifier> make_resnet18(const NetworkShape& shape);
std::shared_ptr<Classifier> make_resnet34(const NetworkShape& shape);
std::shared_ptr<Classifier> make_resnet50(const NetworkShape& shape);
inline constexpr std::int64_t kLargestSmall = 64;

/// WideResNet 40-2 (Zagoruyko and Komodakis 2016), 128 features.
std::shared_ptr<Classifier> make_wide_resnet(const NetworkShape& shape);

}  // namespace ood
