#include "ood/scores/gaussian.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <c10/util/Exception.h>

#include "ood/ops/distances.h"

namespace ood::gaussian {

at::Tensor whitening(std::string_view score, const at::Tensor& covariance, const at::Tensor& mean,
                     double ridge, std::int64_t rows, std::int64_t classes) {
  const auto d = covariance.size(0);
  TORCH_CHECK_VALUE(rows >= d + classes || ridge >= kStrongRidge, score, ": expected at least ",
                    d + classes, " training rows for ", d, " features and ", classes,
                    " classes, got ", rows, "; with a ridge of ", kStrongRidge,
                    " or more fewer do");
  const double scale = covariance.diagonal().mean().item<double>();
  // What rounding leaves of equal numbers is no variance.
  TORCH_CHECK_VALUE(scale > 1e-28 * mean.square().mean().item<double>(), score,
                    ": expected features that vary within a class, got constant ones");
  const auto one = at::eye(d, covariance.options());
  const auto [lower, info] = at::linalg_cholesky_ex(covariance + one * (ridge * scale));
  TORCH_CHECK_VALUE(info.item<int>() == 0, score,
                    ": the covariance of the features is singular; give a ridge above ", ridge);
  return at::linalg_solve_triangular(lower, one, /*upper=*/false);
}

at::Tensor distances(const at::Tensor& features, const at::Tensor& whitening,
                     const at::Tensor& whitened_means) {
  return center_distances(features.to(at::kDouble).mm(whitening.t()), whitened_means, true);
}

}  // namespace ood::gaussian
