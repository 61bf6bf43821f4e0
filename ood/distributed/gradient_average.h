#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "ood/distributed/ranks.h"

namespace ood {

/// Averages the gradients of parameters over the ranks while the backward pass still runs: in
/// buckets, the last parameters, whose gradients are ready first, before the others. Every rank has
/// the same parameters and computes gradients of the same ones.
class GradientAverage {
 public:
  GradientAverage(const Ranks& ranks, std::vector<at::Tensor> parameters);
  ~GradientAverage();
  GradientAverage(const GradientAverage&) = delete;
  GradientAverage& operator=(const GradientAverage&) = delete;

  /// Before the backward pass that makes the gradients whole. `wish`: what finish() tells all ranks
  /// of; it travels with the gradients.
  void begin(bool wish);
  /// After it; the gradients are then the averages. Returns whether any rank had a wish.
  bool finish();

 private:
  struct Bucket {
    std::vector<std::size_t> parameters;
    at::Tensor numbers;  // gradients one after another, and the wish
    std::int64_t missing = 0;
    std::function<void()> wait{};
  };
  struct Hook;
  void ready(std::size_t parameter);
  void start(Bucket& bucket);
  at::Tensor part(const Bucket& bucket, std::size_t parameter) const;

  const Ranks& ranks_;
  std::vector<at::Tensor> parameters_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bucket_of_;   // of a parameter
  std::vector<std::int64_t> offset_of_;  // in its bucket
  std::size_t started_ = 0;              // buckets, always in their order
  bool active_ = false, wish_ = false;
};

}  // namespace ood
