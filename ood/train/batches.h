#pragma once

#include "ood/data/augment.h"
#include "ood/data/random.h"
#include "ood/data/read_ahead.h"
#include "ood/data/task.h"

namespace ood {

/// The batches of a training: ID samples in a new order each epoch, and outliers from an endless
/// stream of orders of their own. Balanced, an epoch has as many samples of each class, those of a
/// small one several times. A function of seed and step, whoever makes which rows of it.
class Batches {
 public:
  /// outliers_per_step may be 0. Inputs that are files are read by so many `decoders` ahead of the
  /// step, or by the threads of the step before it.
  Batches(const Task& task, std::int64_t batch_size, std::int64_t outliers_per_step,
          std::uint64_t seed, const Augmentation& augmentation = {}, std::int64_t decoders = 0,
          bool balanced = false);

  std::int64_t steps_per_epoch() const { return steps_per_epoch_; }
  /// The same before there are batches.
  static std::int64_t steps_per_epoch(const Task& task, std::int64_t batch_size) {
    return task.train.size() / std::min(batch_size, task.train.size());
  }

  std::int64_t id_per_step() const { return batch_size_; }

  /// Of a step counted from the start of the training: first the ID samples, then the outliers
  /// (target -1). Network inputs of the rows that are asked for, ascending; all targets.
  struct Batch {
    at::Tensor inputs, target;
  };
  Batch at_step(std::int64_t step, const std::vector<std::int64_t>& rows);

 private:
  struct Stream {
    const Samples& samples;
    Purpose purpose;
    std::int64_t epoch = -1;
    std::vector<std::int64_t> order{};
  };
  std::int64_t position(Stream& stream, std::int64_t epoch, std::int64_t i) const;
  std::vector<std::int64_t> balanced_order(std::uint64_t epoch) const;
  std::vector<ReadAhead::Row> plan(std::int64_t step, const std::vector<std::int64_t>& rows);
  at::Tensor read(const std::vector<ReadAhead::Row>& rows) const;

  const Task& task_;
  std::int64_t batch_size_, outliers_;
  std::uint64_t seed_;
  Augmentation augmentation_;
  std::vector<std::vector<std::int64_t>> of_class_;  // positions, where it is balanced
  std::int64_t steps_per_epoch_;
  Stream id_, outlier_stream_;
  Stream targets_;                  // the same as id_, which may be epochs ahead
  std::vector<std::int64_t> rows_;  // that are read ahead
  std::unique_ptr<ReadAhead> ahead_;
};

}  // namespace ood
