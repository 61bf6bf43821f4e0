#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

namespace ood {

/// What registers itself by name: objectives, scores; a plug-in may do so while others look.
template <class Entry>
class Entries {
 public:
  /// An error where the name, of what `kind` says, is taken.
  void add(std::string_view kind, Entry entry) {
    const std::lock_guard lock(mutex_);
    TORCH_CHECK(find(entry.name) == nullptr, kind, " \"", entry.name, "\" is registered twice");
    auto& longer = lists_.emplace_back(all());
    longer.push_back(&entries_.emplace_back(std::move(entry)));
    std::sort(longer.begin(), longer.end(),
              [](const auto& a, const auto& b) { return a->name < b->name; });
    current_ = &longer;
  }

  /// Sorted by name.
  std::vector<const Entry*> all() const { return *current_; }

  /// nullptr where there is none of that name.
  const Entry* find(std::string_view name) const {
    for (const auto* e : *current_.load())
      if (e->name == name) return e;
    return nullptr;
  }

 private:
  std::mutex mutex_;
  std::deque<Entry> entries_;  // whose elements stay where they are
  // Who looks, looks on in the list of before without a lock: each loss of a batch does.
  std::deque<std::vector<const Entry*>> lists_{1};
  std::atomic<const std::vector<const Entry*>*> current_{&lists_.front()};
};

}  // namespace ood
