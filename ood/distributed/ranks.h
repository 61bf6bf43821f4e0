#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ood/distributed/environment.h"

/// Processes that train together. Every rank makes the same calls in the same order; what one of
/// them does alone is in on_first().
namespace ood {

/// The ranks of a training, or the one process that it is without a launcher. DistributedError of
/// every call names a rank that ended or does not answer.
class Ranks {
 public:
  virtual ~Ranks() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }

  /// Begins to add the tensor of all ranks up, in place; the same bits on each. Call what it returns
  /// to wait.
  virtual std::function<void()> start_sum(at::Tensor /*contiguous*/) const {
    return [] {};
  }
  /// Tensors of one shape and type on all ranks -> [size, ...].
  virtual at::Tensor gather(const at::Tensor& contiguous) const;
  /// Makes the first rank's tensor everybody's, in place.
  virtual void share(at::Tensor /*contiguous*/) const {}

  /// The first rank's text.
  std::string share(const std::string& text) const;
  /// The texts of all ranks, in their order.
  std::vector<std::string> gather(const std::string& text) const;
  /// Whether it holds on any rank.
  bool any(bool here) const;
  /// UsageError names a rank whose text differs, and the first line in which it does.
  void agree(const std::string& what, const std::string& text) const;

 protected:
  int rank_ = 0, size_ = 1;
};

/// Connects the several processes of an environment: Gloo over TCP. DistributedError where not all of them
/// come within 25 s; a call that takes longer than `timeout` is an error, too. Where the library was
/// built without Gloo's headers only one process is possible.
std::unique_ptr<Ranks> connected(const Environment& environment, std::chrono::seconds timeout);
/// Whether it was built with them.
bool can_connect();

/// A process that shares its work with nobody.
const Ranks& one_process();
/// Those that this process is one of; one_process() until they are set.
const Ranks& ranks();
void set_ranks(std::unique_ptr<Ranks> ranks);

/// Thrown where another rank says what is wrong.
struct SaidElsewhere {
  enum Kind { kUsage, kData, kOther } kind;
};

/// Does it on the first rank. Where that throws, the other ranks throw SaidElsewhere.
void on_first(const Ranks& ranks, const std::function<void()>& action);

}  // namespace ood
