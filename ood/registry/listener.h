#pragma once

#include <cstdint>
#include <string>

namespace ood {

/// Hears what the library says while it works; the caller decides what becomes of it, the library
/// prints nothing. Names of options stand in backquotes.
class Listener {
 public:
  virtual ~Listener() = default;
  /// A line that the user should know of.
  virtual void warn(const std::string& /*line*/) {}
  /// What is done, in a line.
  virtual void tell(const std::string& /*line*/) {}
  /// Of a job, `done` of `total`; `note` is short, e.g. the loss. done == total ends it.
  virtual void progress(const std::string& /*job*/, std::int64_t /*done*/, std::int64_t /*total*/,
                        const std::string& /*note*/) {}
};

/// Who hears from now on, in all threads; nullptr: nobody, which is the start.
void set_listener(Listener* listener);
Listener& listener();

/// Nobody hears while one of these lives: of what is only tried.
class Unheard {
 public:
  Unheard() : before_(listener()) { set_listener(nullptr); }
  ~Unheard() { set_listener(&before_); }
  Unheard(const Unheard&) = delete;
  Unheard& operator=(const Unheard&) = delete;

 private:
  Listener& before_;
};

}  // namespace ood
