#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

namespace ood {

/// A sign of life of every rank in the store that they share, once a second, with the number of
/// collective operations it has begun: so that one that ended or hangs can be named.
class Pulse {
 public:
  /// `store`: a connection of its own.
  Pulse(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::vector<std::string> hosts);
  ~Pulse();
  Pulse(const Pulse&) = delete;
  Pulse& operator=(const Pulse&) = delete;

  /// An operation begins.
  void count() { ++operations_; }
  /// Who is to blame for an operation that failed; "" where all give signs of life, for which it
  /// waits. The object must then live as long as the process.
  std::string suspects();

 private:
  struct Sign {
    std::string text;
    long long operations = -1;
  };
  void beat();
  std::vector<Sign> signs();
  std::string observed();
  std::string verdict();

  c10::intrusive_ptr<c10d::Store> store_;
  int rank_, size_;
  std::vector<std::string> hosts_;
  std::atomic<long long> operations_{0};
  long long beats_ = 0;
  std::mutex mutex_;  // of the store and of the end
  std::condition_variable end_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace ood
