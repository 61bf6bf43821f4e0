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

/// out = sum over j of weight[j * stride] (a - b_j), for m rows of b; those of weight 0 are not
/// read. With m = 1 a scaled difference.
void weighted_differences(const float* a, const float* b, std::int64_t m, std::int64_t width,
                          const float* weight, std::int64_t stride, float* out);
void weighted_differences(const double* a, const double* b, std::int64_t m, std::int64_t width,
                          const double* weight, std::int64_t stride, double* out);

}  // namespace ood::kernels
