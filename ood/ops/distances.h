#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

/// Differentiable distances between embeddings and centers. On the CPU without an N x K x D temporary,
/// with deterministic gradients and no cancellation near a center; derivatives of higher order and other
/// devices take ordinary operations, which have neither promise.
namespace ood {

/// embedding [N, D], centers [K, D] -> [N, K]: Euclidean distances, or their squares, in the type of the
/// embedding, of half types in float32. The derivative of a Euclidean distance is 0 where the distance is 0.
at::Tensor center_distances(const at::Tensor& embedding, const at::Tensor& centers, bool squared);

/// Squared distance of each row to the center of its own class, O(N D): embedding [N, D],
/// centers [K, D], target [N] -> [N]. Rows with a target below 0 give 0 and are not read.
at::Tensor own_center_distances(const at::Tensor& embedding, const at::Tensor& centers,
                                const at::Tensor& target);

/// Mean of the rows of each class, and how many there were: embedding [N, D], target [N] ->
/// [classes, D] (0 for a class without rows), [classes] int64. Differentiable by the embedding.
std::pair<at::Tensor, at::Tensor> class_means(const at::Tensor& embedding, const at::Tensor& target,
                                              std::int64_t classes);

/// Running means of classes, without gradient: means [K, D], counts [K] int64 of the rows seen.
/// momentum 0: exact means of all rows; else means += momentum (batch mean - means), from the
/// second batch of a class on. Rows with a target below 0 take no part. A negative count stands for
/// that many batches of unknown size, each taken to be as large as the next one.
void running_means_update_(const at::Tensor& means, const at::Tensor& counts,
                           const at::Tensor& embedding, const at::Tensor& target, double momentum);

}  // namespace ood
