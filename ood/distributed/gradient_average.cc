#include "ood/distributed/gradient_average.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace ood {
namespace {

// Large enough that the time of a bucket is that of its bytes, small enough that there are several.
constexpr std::int64_t kBucketBytes = 4 << 20;

}  // namespace

struct GradientAverage::Hook : torch::autograd::PostAccumulateGradHook {
  Hook(GradientAverage& average, std::size_t parameter) : average(average), parameter(parameter) {}
  void operator()(const at::Tensor&) override { average.ready(parameter); }

  GradientAverage& average;
  std::size_t parameter;
};

GradientAverage::GradientAverage(const Ranks& ranks, std::vector<at::Tensor> parameters)
    : ranks_(ranks),
      parameters_(std::move(parameters)),
      bucket_of_(parameters_.size()),
      offset_of_(parameters_.size()) {
  if (ranks_.alone()) return;
  std::int64_t used = kBucketBytes;
  std::vector<std::int64_t> lengths;
  for (std::size_t i = parameters_.size(); i-- > 0;) {
    const auto& p = parameters_[i];
    if (used >= kBucketBytes || p.scalar_type() != parameters_[i + 1].scalar_type()) {
      buckets_.emplace_back();
      lengths.push_back(0);
      used = 0;
    }
    buckets_.back().parameters.push_back(i);
    bucket_of_[i] = buckets_.size() - 1;
    offset_of_[i] = lengths.back();
    lengths.back() += p.numel();
    used += static_cast<std::int64_t>(p.nbytes());
    torch::autograd::impl::set_post_acc_grad_hooks(p, std::make_unique<Hook>(*this, i));
  }
  for (std::size_t b = 0; b < buckets_.size(); ++b)
    buckets_[b].numbers = at::empty(
        {lengths[b] + 1}, parameters_[buckets_[b].parameters[0]].options().requires_grad(false));
}

GradientAverage::~GradientAverage() {
  if (ranks_.alone()) return;
  for (const auto& p : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(p, nullptr);
}

at::Tensor GradientAverage::part(const Bucket& bucket, std::size_t i) const {
  return bucket.numbers.narrow(0, offset_of_[i], parameters_[i].numel());
}

void GradientAverage::begin(bool wish) {
  wish_ = wish;
  if (ranks_.alone()) return;
  active_ = true;
  started_ = 0;
  for (auto& b : buckets_) b.missing = static_cast<std::int64_t>(b.parameters.size());
}

void GradientAverage::ready(std::size_t parameter) {
  if (!active_) return;
  --buckets_[bucket_of_[parameter]].missing;
  while (started_ < buckets_.size() && buckets_[started_].missing == 0) start(buckets_[started_++]);
}

void GradientAverage::start(Bucket& bucket) {
  for (const auto i : bucket.parameters) {
    const auto& gradient = parameters_[i].grad();
    auto to = part(bucket, i);
    // No rank has one of it; what is summed up instead is not used.
    if (gradient.defined())
      to.view_as(gradient).copy_(gradient);
    else
      to.zero_();
  }
  bucket.numbers.narrow(0, bucket.numbers.numel() - 1, 1).fill_(wish_ ? 1 : 0);
  bucket.wait = ranks_.start_sum(bucket.numbers);
}

bool GradientAverage::finish() {
  if (ranks_.alone()) return wish_;
  while (started_ < buckets_.size()) start(buckets_[started_++]);
  active_ = false;
  for (auto& bucket : buckets_) {
    bucket.wait();
    for (const auto i : bucket.parameters) {
      auto gradient = parameters_[i].grad();
      if (gradient.defined()) gradient.copy_(part(bucket, i).view_as(gradient)).div_(ranks_.size());
    }
  }
  const auto& last = buckets_.back().numbers;
  return last.narrow(0, last.numel() - 1, 1).item<double>() > 0;
}

}  // namespace ood
