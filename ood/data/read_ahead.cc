#include "ood/data/read_ahead.h"

#include <ATen/Parallel.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <latch>

#include "ood/torch.h"

namespace ood {
namespace {

constexpr std::int64_t kAhead = 3;  // steps
constexpr std::size_t kPart = 8;    // rows that a thread reads at a time

}  // namespace

ReadAhead::ReadAhead(Plan plan, Read read, std::int64_t threads)
    : plan_(std::move(plan)), read_(std::move(read)), threads_(threads) {}

ReadAhead::~ReadAhead() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  wanted_.notify_all();
  for (auto& w : workers_) w.join();
}

void ReadAhead::start() {
  const int before = at::get_num_threads();
  std::latch ready(threads_);
  for (std::int64_t i = 0; i < threads_; ++i)
    workers_.emplace_back([this, &ready] {
      // Of this thread, which would take the number of all at its first work; and of threads that
      // start later, which is put right below.
      at::internal::lazy_init_num_threads();
      at::set_num_threads(1);
      // Steps go first: reading fills what they leave.
      constexpr int kNice = 19;
      setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
      const at::AutoDispatchBelowADInplaceOrView no_gradients;
      ready.count_down();
      work();
    });
  ready.wait();
  at::set_num_threads(before);
}

void ReadAhead::add(std::int64_t step) {
  auto batch = std::make_shared<Batch>();
  batch->step = step;
  batch->rows = plan_(step);
  batch->left = batch->rows.size();
  {
    const std::scoped_lock lock(mutex_);
    if (!spare_.empty()) {
      batch->inputs = std::move(spare_.back());
      spare_.pop_back();
    }
    batches_.push_back(std::move(batch));
  }
  wanted_.notify_all();
}

at::Tensor ReadAhead::take(std::int64_t step) {
  if (workers_.empty()) start();
  std::int64_t next = step;
  {
    const std::scoped_lock lock(mutex_);
    if (lent_.defined()) spare_.push_back(std::move(lent_));
    lent_ = at::Tensor();
    if (!batches_.empty() && batches_.front()->step == step)
      next = batches_.back()->step + 1;
    else
      batches_.clear();  // of a training that went elsewhere
  }
  for (; next < step + kAhead; ++next) add(next);
  std::unique_lock lock(mutex_);
  const auto batch = batches_.front();
  made_.wait(lock, [&] { return batch->left == 0; });
  batches_.pop_front();
  if (batch->error) std::rethrow_exception(batch->error);
  lent_ = batch->inputs;
  return lent_;
}

void ReadAhead::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    std::shared_ptr<Batch> batch;
    wanted_.wait(lock, [&] {
      const auto it = std::find_if(batches_.begin(), batches_.end(),
                                   [](const auto& b) { return b->next < b->rows.size(); });
      if (it != batches_.end()) batch = *it;
      return ends_ || batch;
    });
    if (ends_) return;
    const std::size_t begin = batch->next;
    const std::size_t end = std::min(begin + kPart, batch->rows.size());
    batch->next = end;
    lock.unlock();
    try {
      const auto part = read_({batch->rows.begin() + static_cast<std::ptrdiff_t>(begin),
                               batch->rows.begin() + static_cast<std::ptrdiff_t>(end)});
      lock.lock();
      if (!batch->inputs.defined()) {
        auto shape = part.sizes().vec();
        shape[0] = static_cast<std::int64_t>(batch->rows.size());
        batch->inputs = torch::empty(shape, part.options());
      }
      const auto place = batch->inputs.narrow(0, static_cast<std::int64_t>(begin), part.size(0));
      lock.unlock();
      place.copy_(part);
      lock.lock();
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      batch->error = std::current_exception();
    }
    batch->left -= end - begin;
    if (batch->left == 0) made_.notify_all();
  }
}

}  // namespace ood
