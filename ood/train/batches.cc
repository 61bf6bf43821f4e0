#include "ood/train/batches.h"

#include "ood/torch.h"

namespace ood {

Batches::Batches(const Task& task, std::int64_t batch_size, std::int64_t outliers_per_step,
                 std::uint64_t seed, const Augmentation& augmentation)
    : task_(task),
      batch_size_(std::min(batch_size, task.train.size())),
      outliers_(outliers_per_step),
      seed_(seed),
      augmentation_(augmentation),
      steps_per_epoch_(task.train.size() / batch_size_),
      id_{task.train, Purpose::kShuffle},
      outlier_stream_{task.train_outliers, Purpose::kOutliers} {}

std::int64_t Batches::position(Stream& s, std::int64_t epoch, std::int64_t i) {
  if (s.epoch != epoch) {
    s.order = permutation(s.samples.size(), seed_, s.purpose, static_cast<std::uint64_t>(epoch));
    s.epoch = epoch;
  }
  return s.order[static_cast<std::size_t>(i)];
}

Batches::Batch Batches::at_step(std::int64_t step, const std::vector<std::int64_t>& rows) {
  std::vector<std::int64_t> id, outlier;
  const std::int64_t first = step % steps_per_epoch_ * batch_size_;
  for (std::int64_t i = 0; i < batch_size_; ++i)
    id.push_back(position(id_, step / steps_per_epoch_, first + i));
  const std::int64_t n = task_.train_outliers.size();
  for (std::int64_t i = 0; i < outliers_; ++i) {
    const std::int64_t at = step * outliers_ + i;
    outlier.push_back(position(outlier_stream_, at / n, at % n));
  }
  std::vector<std::int64_t> own_id, own_outlier;
  std::vector<std::uint64_t> samples;
  for (const auto row : rows) {
    if (row < batch_size_)
      own_id.push_back(id[static_cast<std::size_t>(row)]);
    else
      own_outlier.push_back(outlier[static_cast<std::size_t>(row - batch_size_)]);
    samples.push_back(static_cast<std::uint64_t>(step * (batch_size_ + outliers_) + row));
  }
  at::Tensor inputs = task_.train.select(own_id).inputs;
  if (!own_outlier.empty())
    inputs = torch::cat({inputs, task_.train_outliers.select(own_outlier).inputs});
  if (augmentation_.any()) inputs = augmented(inputs, augmentation_, seed_, samples);
  const auto labels = task_.train.labels.index_select(0, torch::tensor(id, torch::kLong));
  return {normalised(task_, inputs),
          torch::cat({labels, torch::full({outliers_}, -1, torch::kLong)})};
}

}  // namespace ood
