#pragma once

#include <algorithm>
#include <cmath>

namespace ood::ops {

/// log(1 + e^x) and the sigmoids of x and -x, without overflow; NaN stays NaN.
struct Logistic {
  double softplus, softplus_minus, sigmoid, sigmoid_minus;

  explicit Logistic(double x) {
    const double e = std::exp(-std::abs(x)), rest = std::log1p(e);
    softplus = std::max(x, 0.0) + rest;
    softplus_minus = std::max(-x, 0.0) + rest;
    sigmoid = (x >= 0 ? 1 : e) / (1 + e);
    sigmoid_minus = (x >= 0 ? e : 1) / (1 + e);
  }
};

}  // namespace ood::ops
