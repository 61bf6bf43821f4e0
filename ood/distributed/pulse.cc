#include "ood/distributed/pulse.h"

#include <cstdlib>
#include <future>

#include "ood/distributed/store_text.h"

namespace ood {
namespace {

constexpr std::chrono::milliseconds kBeat(1000), kWatch(2500);
constexpr const char* kVerdict = "verdict";

std::string key(int rank) { return "pulse/" + std::to_string(rank); }

}  // namespace

Pulse::Pulse(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
             std::vector<std::string> hosts)
    : store_(std::move(store)), rank_(rank), size_(size), hosts_(std::move(hosts)) {
  beat();
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!end_.wait_for(lock, kBeat, [this] { return ends_; })) {
      try {
        beat();
      } catch (const std::exception&) {
        return;  // the rank that holds the store has ended, which the next operation finds
      }
    }
  });
}

Pulse::~Pulse() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  end_.notify_all();
  thread_.join();
}

void Pulse::beat() {
  store_->set(key(rank_), bytes_of(std::to_string(beats_++) + " " + std::to_string(operations_)));
}

std::vector<Pulse::Sign> Pulse::signs() {
  const std::lock_guard lock(mutex_);
  std::vector<Sign> all(static_cast<std::size_t>(size_));
  for (int r = 0; r < size_; ++r) {
    if (!store_->check({key(r)})) continue;
    auto& sign = all[static_cast<std::size_t>(r)];
    sign.text = text_of(store_->get(key(r)));
    sign.operations = std::atoll(sign.text.c_str() + sign.text.find(' '));
  }
  return all;
}

std::string Pulse::observed() {
  const auto name = [&](std::size_t r) { return "rank " + std::to_string(r) + " on " + hosts_[r]; };
  const auto before = signs();
  std::this_thread::sleep_for(kWatch);
  const auto after = signs();
  std::string silent, behind;
  const auto add = [&](std::string& list, std::size_t r) {
    list += (list.empty() ? "" : ", ") + name(r);
  };
  for (std::size_t r = 0; r < after.size(); ++r) {
    if (static_cast<int>(r) == rank_) continue;
    if (before[r].text == after[r].text) add(silent, r);
    if (after[r].operations < operations_) add(behind, r);
  }
  if (!silent.empty()) return silent + ": ended or hangs, gives no sign of life";
  if (!behind.empty()) return behind + ": lives but does not come to the others' step";
  return "";
}

// Ranks that end because of the first failure must not be taken for its cause: the first that looks
// tells the others.
std::string Pulse::verdict() {
  const auto known = [&] {
    const std::lock_guard lock(mutex_);
    return store_->check({kVerdict}) ? text_of(store_->get(kVerdict)) : "";
  };
  if (const auto text = known(); !text.empty()) return text;
  const auto own = observed();
  if (const auto text = known(); !text.empty()) return text;
  const std::lock_guard lock(mutex_);
  if (!own.empty()) store_->set(kVerdict, bytes_of(own));
  return own;
}

std::string Pulse::suspects() {
  const std::string holder = "rank 0 on " + hosts_[0] + ", or the launcher that holds the store: ";
  // A store on a host that hangs does not answer, and its client would wait for ever.
  std::promise<std::string> answer;
  auto answered = answer.get_future();
  std::thread([this, holder, answer = std::move(answer)]() mutable {
    try {
      answer.set_value(verdict());
    } catch (const std::exception&) {
      answer.set_value(holder + "ended");
    }
  }).detach();
  if (answered.wait_for(kWatch + 2 * kBeat) == std::future_status::ready) return answered.get();
  return holder + "hangs, gives no sign of life";
}

}  // namespace ood
