#pragma once

namespace ood {

/// While one of these lives, Ctrl-C and SIGTERM are remembered instead of ending the program; a
/// second one ends it. One of several ranks remembers every one, since a launcher repeats what the
/// terminal sends; `ood launch` and torchrun end what does not end by itself.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const;
};

}  // namespace ood
