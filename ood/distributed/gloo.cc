// The one file that knows c10d's process groups; the build gives it Gloo's headers where they are.
#include "ood/distributed/ranks.h"
#include "ood/errors.h"

#ifdef OOD_GLOO

#include <c10/util/Logging.h>
#include <pthread.h>
#include <sched.h>

#include <cstdlib>
#include <random>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "ood/distributed/pulse.h"
#include "ood/distributed/store_text.h"
#include "ood/version.h"

C10_DECLARE_int(caffe2_log_level);

namespace ood {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Store = c10::intrusive_ptr<c10d::Store>;

constexpr Milliseconds kArrival(25000);
// TCPStore tries a last time many seconds after its timeout.
constexpr Milliseconds kConnect(12000);

std::string seconds(Milliseconds time) { return std::to_string(time.count() / 1000) + " s"; }

std::string name(const Environment& e) { return e.address + ":" + std::to_string(e.port); }

bool holds_store(const Environment& e) { return e.rank == 0 && !e.launcher_has_store; }

Store tcp_store(const Environment& e) {
  c10d::TCPStoreOptions o;
  o.port = e.port;
  o.isServer = holds_store(e);
  if (o.isServer && e.store_fd >= 0) o.masterListenFd = e.store_fd;
  o.numWorkers = static_cast<std::size_t>(e.size);
  o.waitWorkers = false;
  o.timeout = kConnect;
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(e.address, o);
    store->setTimeout(kArrival + Milliseconds(2000));  // rank 0 says who is missing
    return store;
  } catch (const std::exception& error) {
    const std::string why = error.what();
    if (o.isServer && why.find("EADDRINUSE") != std::string::npos)
      throw DistributedError("MASTER_PORT: " + std::to_string(e.port) +
                             " is in use by another program; expected a free port");
    throw DistributedError(o.isServer
                               ? "MASTER_ADDR, MASTER_PORT: rank 0 cannot listen at " + name(e)
                               : "MASTER_ADDR, MASTER_PORT: nobody answers at " + name(e) +
                                     " within " + seconds(kConnect) + "; expected rank 0 there");
  }
}

// A name for this round of workers. torchrun's store outlives a restart, and its count of restarts
// may differ from host to host, so keys of an earlier round must not be read: rank 0 answers only
// to numbers that the others have just drawn.
class Arrival {
 public:
  Arrival(const Environment& e, c10d::Store& store) : e_(e), store_(store) {
    std::random_device random;
    nonce_ = std::to_string((std::uint64_t{random()} << 32) | random());
  }

  std::string round() const {
    try {
      return e_.rank == 0 ? welcome() : arrive();
    } catch (const c10::Error&) {
      throw DistributedError("rank 0 at " + name(e_) + " went away while the ranks met");
    }
  }

 private:
  // What a worker says of itself after its number.
  std::string about() const {
    return "WORLD_SIZE " + std::to_string(e_.size) + ", ood " + kVersion;
  }

  std::string arrive() const {
    const std::string rank = std::to_string(e_.rank);
    store_.set("ood/hello/" + rank, bytes_of(nonce_ + " " + about()));
    const auto round = answer("ood/reply/" + nonce_);
    if (store_.add("ood/claim/" + round + "/" + rank, 1) > 1)
      throw UsageError("RANK: " + rank + " is that of another process, too; expected one of each");
    store_.set("ood/here/" + round + "/" + rank, bytes_of("1"));
    // Another rank may not fit.
    answer("ood/go/" + round);
    return round;
  }

  // What rank 0 says; UsageError where that is a refusal.
  std::string answer(const std::string& key) const {
    std::string text;
    try {
      text = text_of(store_.get(key));
    } catch (const std::exception&) {
      throw DistributedError("rank 0 does not answer at " + name(e_) + " within " +
                             seconds(kArrival));
    }
    if (text.starts_with("!")) throw UsageError(text.substr(1));
    if (text.starts_with("?")) throw DistributedError(text.substr(1));
    return text;
  }

  std::string welcome() const {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + kArrival;
    std::vector<std::string> answered(static_cast<std::size_t>(e_.size));
    for (;;) {
      std::string missing;
      for (int r = 1; r < e_.size; ++r) {
        const std::string rank = std::to_string(r);
        if (store_.check({"ood/here/" + nonce_ + "/" + rank})) continue;
        missing += (missing.empty() ? "" : ", ") + rank;
        if (!store_.check({"ood/hello/" + rank})) continue;
        const auto hello = text_of(store_.get("ood/hello/" + rank));
        if (const auto why = why_not(r, hello); !why.empty()) refuse(why);
        if (hello != answered[static_cast<std::size_t>(r)])
          store_.set("ood/reply/" + hello.substr(0, hello.find(' ')), bytes_of(nonce_));
        answered[static_cast<std::size_t>(r)] = hello;
      }
      if (missing.empty()) {
        store_.set("ood/go/" + nonce_, bytes_of("1"));
        return nonce_;
      }
      if (Clock::now() > end) {
        const std::string who = "WORLD_SIZE: " + std::to_string(e_.size) +
                                " ranks are expected; within " + seconds(kArrival) +
                                " there did not come: rank " + missing;
        store_.set("ood/go/" + nonce_, bytes_of("?" + who));
        std::this_thread::sleep_for(Milliseconds(1000));  // so that those who came can read it
        throw DistributedError(who);
      }
      std::this_thread::sleep_for(Milliseconds(5));
    }
  }

  // Tells all that are here, and for some time those that come.
  [[noreturn]] void refuse(const std::string& why) const {
    const auto refusal = bytes_of("!" + why);
    store_.set("ood/go/" + nonce_, refusal);
    for (int i = 0; i < 200; ++i) {
      for (int r = 1; r < e_.size; ++r)
        if (const std::string key = "ood/hello/" + std::to_string(r); store_.check({key})) {
          const auto hello = text_of(store_.get(key));
          store_.set("ood/reply/" + hello.substr(0, hello.find(' ')), refusal);
        }
      std::this_thread::sleep_for(Milliseconds(10));
    }
    throw UsageError(why);
  }

  // Why a worker does not fit; "": it does.
  std::string why_not(int rank, const std::string& hello) const {
    const auto theirs = hello.substr(hello.find(' ') + 1);
    if (theirs == about()) return "";
    return "ranks differ: rank " + std::to_string(rank) + " has " + theirs + "; rank 0 has " +
           about();
  }

  const Environment& e_;
  c10d::Store& store_;
  std::string nonce_;
};

// Threads that are begun while one lives run ahead of all in line, where the system lets them
// (CAP_SYS_NICE, or a limit on rtprio) and nobody has said how this process is to run. Gloo's move
// bytes and add them up; in line with others each of their wake-ups may wait for the end of a time
// slice, 4 ms. A team of OpenMP that spins would be ahead, too.
class AheadInLine {
 public:
  AheadInLine() {
    sched_param ahead{};
    ahead.sched_priority = sched_get_priority_min(SCHED_RR);
    int policy = 0;
    is_ahead_ = std::getenv("OMP_WAIT_POLICY") == nullptr &&
                pthread_getschedparam(pthread_self(), &policy, &before_) == 0 &&
                policy == SCHED_OTHER &&
                pthread_setschedparam(pthread_self(), SCHED_RR, &ahead) == 0;
  }
  ~AheadInLine() {
    if (is_ahead_) pthread_setschedparam(pthread_self(), SCHED_OTHER, &before_);
  }
  AheadInLine(const AheadInLine&) = delete;
  AheadInLine& operator=(const AheadInLine&) = delete;

 private:
  sched_param before_{};
  bool is_ahead_;
};

class GlooRanks : public Ranks {
 public:
  GlooRanks(const Environment& e, std::chrono::seconds timeout)
      : timeout_(timeout), holds_store_(holds_store(e)) {
    rank_ = e.rank;
    size_ = e.size;
    // What goes wrong is said by our own errors.
    FLAGS_caffe2_log_level = c10::GLOG_FATAL;
    const Store tcp = tcp_store(e);
    const std::string prefix = "ood/" + Arrival(e, *tcp).round();
    try {
      const AheadInLine threads;
      const auto options = c10d::ProcessGroupGloo::Options::create(kArrival);
      options->devices.push_back(
          e.interface.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                              : c10d::ProcessGroupGloo::createDeviceForInterface(e.interface));
      group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(
          c10::make_intrusive<c10d::PrefixStore>(prefix, tcp), rank_, size_, options);
    } catch (const std::exception& error) {
      const std::string why = error.what();
      throw DistributedError("the ranks do not reach one another (" +
                             why.substr(0, why.find('\n')) +
                             "); GLOO_SOCKET_IFNAME names the network interface to use");
    }
    group_->setTimeout(std::chrono::duration_cast<Milliseconds>(timeout));
    const auto hosts = Ranks::gather(host_name());
    pulse_ = std::make_unique<Pulse>(c10::make_intrusive<c10d::PrefixStore>(prefix, tcp->clone()),
                                     rank_, size_, hosts);
  }

  std::function<void()> start_sum(at::Tensor t) const override {
    return begin([&] {
      std::vector<at::Tensor> list{t};
      return group_->allreduce(list);
    });
  }

  at::Tensor gather(const at::Tensor& t) const override {
    std::vector<std::int64_t> shape{size_};
    shape.insert(shape.end(), t.sizes().begin(), t.sizes().end());
    auto all = at::empty(shape, t.options());
    begin([&] {
      std::vector<std::vector<at::Tensor>> parts{all.unbind(0)};
      std::vector<at::Tensor> own{t};
      return group_->allgather(parts, own);
    })();
    return all;
  }

  void share(at::Tensor t) const override {
    begin([&] {
      std::vector<at::Tensor> list{t};
      return group_->broadcast(list);
    })();
  }

  using Ranks::gather;
  using Ranks::share;

 private:
  // What a rank that is gone or slow does to an operation, in words.
  template <class Operation>
  std::function<void()> begin(Operation&& operation) const {
    if (pulse_) pulse_->count();
    const auto started = std::chrono::steady_clock::now();
    const auto failed = [this, started](const std::exception& e) {
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
      const bool late = seconds >= 0.9 * static_cast<double>(timeout_.count());
      const std::string what = e.what();
      std::string who = pulse_ ? pulse_->suspects() : "the ranks lost one another as they met";
      if (who.empty()) who = "the ranks lost one another: " + what.substr(0, what.find('\n'));
      // The others ask its store, too.
      if (holds_store_) std::this_thread::sleep_for(Milliseconds(4000));
      throw DistributedError(
          who + (late ? "; no answer for " + std::to_string(timeout_.count()) + " s" : ""));
    };
    c10::intrusive_ptr<c10d::Work> work;
    try {
      work = operation();
    } catch (const std::exception& e) {
      failed(e);
    }
    return [work, failed] {
      try {
        work->wait();
      } catch (const std::exception& e) {
        failed(e);
      }
    };
  }

  std::chrono::seconds timeout_;
  bool holds_store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::unique_ptr<Pulse> pulse_;
};

}  // namespace

std::unique_ptr<Ranks> connected(const Environment& environment, std::chrono::seconds timeout) {
  return std::make_unique<GlooRanks>(environment, timeout);
}

bool can_connect() { return true; }

}  // namespace ood

#else

namespace ood {

std::unique_ptr<Ranks> connected(const Environment& environment, std::chrono::seconds) {
  throw UsageError("WORLD_SIZE is " + std::to_string(environment.size) +
                   ", and this program was built without Gloo's headers: it trains in one process");
}

bool can_connect() { return false; }

}  // namespace ood

#endif
