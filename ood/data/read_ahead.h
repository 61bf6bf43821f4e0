#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ood {

/// Makes the inputs of steps before they are asked for, in threads of its own. What is made does
/// not depend on how many there are.
class ReadAhead {
 public:
  /// One input of a step.
  struct Row {
    bool outlier;
    std::int64_t position;  ///< among the ID samples or the outliers
    std::uint64_t sample;   ///< that it is of all the training sees, for random numbers
  };
  /// Rows of a step; called by the thread that takes, for one step after the other.
  using Plan = std::function<std::vector<Row>(std::int64_t step)>;
  /// Inputs of some rows [n, channels, height, width]; called by many threads.
  using Read = std::function<at::Tensor(const std::vector<Row>& rows)>;

  ReadAhead(Plan plan, Read read, std::int64_t threads);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// The inputs of a step, which are overwritten when the next is taken. What reading them threw
  /// is thrown here.
  at::Tensor take(std::int64_t step);

 private:
  struct Batch {
    std::int64_t step;
    std::vector<Row> rows;
    at::Tensor inputs;  // made by the first part that is read
    std::size_t next = 0, left = 0;
    std::exception_ptr error;
  };
  void start();
  void work();
  void add(std::int64_t step);

  Plan plan_;
  Read read_;
  std::int64_t threads_;
  std::mutex mutex_;
  std::condition_variable wanted_, made_;
  std::deque<std::shared_ptr<Batch>> batches_;
  std::vector<at::Tensor> spare_;
  at::Tensor lent_;
  bool ends_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace ood
