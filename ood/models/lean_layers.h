#pragma once

#include "ood/models/batch_norm.h"

/// Layers that keep less for the backward pass than the same layers one after another: what costs
/// little is computed again. The numbers are the same but for the rounding of gradients.
namespace ood {

/// conv(relu(norm(x))). Keeps x alone; the rest is made from it again.
at::Tensor conv_of_relu_norm(const at::Tensor& x, BatchNorm2d& norm, torch::nn::Conv2d& conv);

/// relu(maximum over 3x3 windows, every second, of norm(x)). The maximum of relus is the relu of the
/// maximum, which is a quarter as large; of the windows it keeps the places.
at::Tensor relu_of_pooled_norm(const at::Tensor& x, BatchNorm2d& norm);

}  // namespace ood
