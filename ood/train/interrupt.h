#pragma once

#include <array>

namespace ood {

/// The variable that `ood launch` sets for its ranks, of which there may be one.
inline constexpr const char* kLaunched = "OOD_LAUNCHED";

/// While one of these lives, Ctrl-C, SIGTERM and, unless it is ignored as under nohup, SIGHUP are
/// remembered instead of ending the program; a second one ends it. A rank that was launched remembers
/// every one, since a launcher repeats what the terminal sends; `ood launch` and torchrun end what
/// does not end by itself.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const;

 private:
  std::array<void (*)(int), 3> before_;  // how each signal was handled
};

}  // namespace ood
