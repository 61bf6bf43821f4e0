#include "ood/train/batches.h"

#include "ood/torch.h"

namespace ood {

Batches::Batches(const Task& task, std::int64_t batch_size, std::int64_t outliers_per_step,
                 std::uint64_t seed, const Augmentation& augmentation, std::int64_t decoders,
                 bool balanced)
    : task_(task),
      batch_size_(std::min(batch_size, task.train.size())),
      outliers_(outliers_per_step),
      seed_(seed),
      augmentation_(augmentation),
      steps_per_epoch_(steps_per_epoch(task, batch_size)),
      id_{task.train, Purpose::kShuffle},
      outlier_stream_{task.train_outliers, Purpose::kOutliers},
      targets_{task.train, Purpose::kShuffle} {
  if (balanced) {
    of_class_.resize(static_cast<std::size_t>(task.classes()));
    const auto* labels = task.train.labels.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < task.train.size(); ++i)
      of_class_[static_cast<std::size_t>(labels[i])].push_back(i);
    // One may be held out whole, or lost to a limit.
    std::erase_if(of_class_, [](const auto& members) { return members.empty(); });
  }
  const bool files =
      !task.train.inputs.in_memory() || (outliers_ > 0 && !task.train_outliers.inputs.in_memory());
  if (files && decoders > 0)
    ahead_ = std::make_unique<ReadAhead>([this](std::int64_t step) { return plan(step, rows_); },
                                         [this](const auto& rows) { return read(rows); }, decoders);
}

// Slot i of n is of class i modulo their number; each class goes through its samples in an order of
// its own, as often as that takes.
std::vector<std::int64_t> Batches::balanced_order(std::uint64_t epoch) const {
  const auto classes = static_cast<std::int64_t>(of_class_.size());
  const auto slots = permutation(task_.train.size(), seed_, Purpose::kShuffle, epoch);
  std::vector<std::int64_t> order(slots.size());
  for (std::int64_t c = 0; c < classes; ++c) {
    const auto& members = of_class_[static_cast<std::size_t>(c)];
    const auto n = static_cast<std::int64_t>(members.size());
    std::vector<std::int64_t> turn;
    for (std::int64_t i = c, k = 0; i < task_.train.size(); i += classes, ++k) {
      if (k % n == 0) {
        const auto round = static_cast<std::uint64_t>(k / n * classes + c);
        turn = permutation(n, seed_, Purpose::kBalance, (epoch << 24) + round);
      }
      order[static_cast<std::size_t>(slots[static_cast<std::size_t>(i)])] =
          members[static_cast<std::size_t>(turn[static_cast<std::size_t>(k % n)])];
    }
  }
  return order;
}

std::int64_t Batches::position(Stream& s, std::int64_t epoch, std::int64_t i) const {
  if (s.epoch != epoch) {
    const auto e = static_cast<std::uint64_t>(epoch);
    s.order = s.purpose == Purpose::kShuffle && !of_class_.empty()
                  ? balanced_order(e)
                  : permutation(s.samples.size(), seed_, s.purpose, e);
    s.epoch = epoch;
  }
  return s.order[static_cast<std::size_t>(i)];
}

std::vector<ReadAhead::Row> Batches::plan(std::int64_t step,
                                          const std::vector<std::int64_t>& rows) {
  const std::int64_t first = step % steps_per_epoch_ * batch_size_;
  const std::int64_t n = task_.train_outliers.size();
  std::vector<ReadAhead::Row> plan;
  for (const auto row : rows) {
    const auto sample = static_cast<std::uint64_t>(step * (batch_size_ + outliers_) + row);
    if (row < batch_size_) {
      plan.push_back({false, position(id_, step / steps_per_epoch_, first + row), sample});
      continue;
    }
    const std::int64_t at = step * outliers_ + row - batch_size_;
    plan.push_back({true, position(outlier_stream_, at / n, at % n), sample});
  }
  return plan;
}

at::Tensor Batches::read(const std::vector<ReadAhead::Row>& rows) const {
  std::vector<std::int64_t> id, outlier;
  std::vector<std::uint64_t> samples;
  for (const auto& row : rows) {
    (row.outlier ? outlier : id).push_back(row.position);
    samples.push_back(row.sample);
  }
  std::vector<at::Tensor> parts;
  if (!id.empty()) parts.push_back(task_.train.inputs.at(id));
  if (!outlier.empty()) parts.push_back(task_.train_outliers.inputs.at(outlier));
  const auto inputs = parts.size() == 1 ? parts.front() : torch::cat(parts);
  return augmentation_.any() ? augmented(inputs, augmentation_, seed_, samples) : inputs;
}

Batches::Batch Batches::at_step(std::int64_t step, const std::vector<std::int64_t>& rows) {
  std::vector<std::int64_t> id;
  const std::int64_t first = step % steps_per_epoch_ * batch_size_;
  for (std::int64_t i = 0; i < batch_size_; ++i)
    id.push_back(position(targets_, step / steps_per_epoch_, first + i));
  const auto labels = task_.train.labels.index_select(0, torch::tensor(id, torch::kLong));
  rows_ = rows;
  const auto inputs = ahead_ ? ahead_->take(step) : read(plan(step, rows));
  return {normalised(task_, inputs),
          torch::cat({labels, torch::full({outliers_}, -1, torch::kLong)})};
}

}  // namespace ood
