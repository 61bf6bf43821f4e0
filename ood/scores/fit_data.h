#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace ood {

/// Mean and covariance of all rows, float64.
struct Spread {
  at::Tensor mean;   ///< [D]
  at::Tensor total;  ///< around it [D, D], divided by N
};

/// The same by class.
struct Moments : Spread {
  at::Tensor means;   ///< of the classes [K, D]
  at::Tensor within;  ///< covariance around the means of the classes [D, D], divided by N
};

/// What scores are fitted to: ID training data as a trained network sees it, and its last layer.
/// What several scores need is computed once for the tensors at hand, and anew for others. Undefined:
/// not given.
class FitData {
 public:
  at::Tensor logits;        ///< [N, K]
  at::Tensor features;      ///< [N, D], float32 or float64
  at::Tensor labels;        ///< int64 [N], 0 .. K-1
  at::Tensor weight, bias;  ///< of the last layer, [K, D] and [K]; an undefined bias is 0
  at::Tensor held_out_logits, held_out_labels;  ///< [M, K], [M]
  at::Tensor bank;  ///< int64, the rows that a score keeps which keeps rows; undefined: all

  std::int64_t rows() const { return features.size(0); }
  std::int64_t dimension() const { return features.size(1); }
  /// Of the last layer where it is given, else as many as the labels tell.
  std::int64_t classes() const;

  /// Of the features, or of the features divided by their norms.
  const Spread& spread(bool normalized) const;
  /// Means of the classes [K, D] float64; a c10::ValueError names a class without rows.
  const at::Tensor& class_means(bool normalized) const;
  /// The same with covariances.
  const Moments& moments(bool normalized) const;
  /// Those of `rows` [N, ...] that belong into a bank.
  at::Tensor in_bank(const at::Tensor& rows) const;
  /// The mean of the features, or of the normalised ones, [D], float64.
  const at::Tensor& mean(bool normalized = false) const;
  /// The least of all features.
  double least() const;
  /// Weight and bias of the last layer, float64.
  std::vector<at::Tensor> head() const;
  /// What the last layer says of the features [N, K], in their type.
  const at::Tensor& head_logits() const;
  /// Features divided by their norms, in their type.
  const at::Tensor& normalized() const;

 private:
  void forget_others() const;

  mutable std::array<at::Tensor, 4> of_;  ///< what the rest was computed of
  mutable std::array<std::uint32_t, 4> versions_{};
  mutable std::array<std::optional<Spread>, 2> spread_;
  mutable std::array<std::optional<Moments>, 2> moments_;
  mutable std::array<at::Tensor, 2> mean_, class_means_;
  mutable at::Tensor counts_;
  mutable at::Tensor head_logits_, normalized_;
  mutable std::optional<double> least_;
};

/// Sums of the rows [N, D] of each class [classes, D] float64, and how many there are, int64; rows
/// with a label below 0 take no part. The same in any number of threads.
std::pair<at::Tensor, at::Tensor> class_sums(const at::Tensor& rows, const at::Tensor& labels,
                                             std::int64_t classes);

/// Rows divided by their norms; a row of zeros stays.
at::Tensor unit_rows(const at::Tensor& rows);

/// weight [K, D], bias [K] or undefined: features [N, D] -> logits [N, K].
at::Tensor through_head(const at::Tensor& features, const at::Tensor& weight,
                        const at::Tensor& bias);

}  // namespace ood
