#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <memory>
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
    for (const auto& e : entries_)
      TORCH_CHECK(e->name != entry.name, kind, " \"", entry.name, "\" is registered twice");
    entries_.push_back(std::make_unique<Entry>(std::move(entry)));
    std::sort(entries_.begin(), entries_.end(),
              [](const auto& a, const auto& b) { return a->name < b->name; });
  }

  /// Sorted by name.
  std::vector<const Entry*> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<const Entry*> all;
    for (const auto& e : entries_) all.push_back(e.get());
    return all;
  }

  /// nullptr where there is none of that name.
  const Entry* find(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    for (const auto& e : entries_)
      if (e->name == name) return e.get();
    return nullptr;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace ood
