#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

/// What the scores of Mahalanobis' distance share.
namespace ood::gaussian {

/// What is added to a covariance S before it is inverted: ridge trace(S) / D.
inline constexpr double kRidge = 1e-6;
inline constexpr double kMaxRidge = 1e6;
/// From here on a covariance may have fewer rows than columns.
inline constexpr double kStrongRidge = 1e-3;

/// W [D, D] with ||W (x - m)||^2 = (x - m)^T (S + ridge)^-1 (x - m), by Cholesky's decomposition,
/// float64. A c10::ValueError where features are constant, or where fewer rows than features and
/// classes leave S singular.
at::Tensor whitening(std::string_view score, const at::Tensor& covariance, const at::Tensor& mean,
                     double ridge, std::int64_t rows, std::int64_t classes);

/// Squared distances [N, K] of features [N, D] to means that are whitened already [K, D].
at::Tensor distances(const at::Tensor& features, const at::Tensor& whitening,
                     const at::Tensor& whitened_means);

}  // namespace ood::gaussian
