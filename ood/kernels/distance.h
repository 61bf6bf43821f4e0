#pragma once

#include <cstdint>

/// Distances between vectors by direct differences: no cancellation near a center. T is float or
/// double.
namespace ood::kernels {

/// out[i * out_stride + j] = ||a_i - b_j||^2 for n rows of a and m rows of b, each of `width`
/// numbers.
void square_distances(const float* a, std::int64_t n, const float* b, std::int64_t m,
                      std::int64_t width, float* out, std::int64_t out_stride);
void square_distances(const double* a, std::int64_t n, const double* b, std::int64_t m,
                      std::int64_t width, double* out, std::int64_t out_stride);

/// out = sum over e < m of weight[e] (a - b_j), j = index[e], rows of `width` numbers.
void weighted_differences(const float* a, const float* b, std::int64_t m, std::int64_t width,
                          const float* weight, const std::int64_t* index, float* out);
void weighted_differences(const double* a, const double* b, std::int64_t m, std::int64_t width,
                          const double* weight, const std::int64_t* index, double* out);

/// out = weight (a - b); with a weight of 0 what they hold does not matter.
template <class T>
void weighted_difference(const T* a, const T* b, std::int64_t width, T weight, T* out) {
  constexpr std::int64_t kFirst = 0;
  weighted_differences(a, b, weight == 0 ? 0 : 1, width, &weight, &kFirst, out);
}

}  // namespace ood::kernels
