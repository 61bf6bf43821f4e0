#include "ood/train/interrupt.h"

#include <csignal>
#include <cstdlib>

#include "ood/distributed/ranks.h"

namespace ood {
namespace {

// A lost terminal is a wish to stop, too.
constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t received = 0;

void remember(int signal) {
  received = 1;
  std::signal(signal, SIG_DFL);
}

// A launcher sends once more what the terminal has sent to all of them.
void remember_each(int) { received = 1; }

bool launched() { return !ranks().alone() || std::getenv(kLaunched) != nullptr; }

}  // namespace

InterruptGuard::InterruptGuard() {
  received = 0;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    before_[i] = std::signal(kSignals[i], launched() ? remember_each : remember);
    // nohup's; SIGINT is ignored in a script's background, too, but there it is not meant.
    if (kSignals[i] == SIGHUP && before_[i] == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
  }
}

InterruptGuard::~InterruptGuard() {
  // A rank that is about to end is not to be ended by the launcher's repetition.
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    std::signal(kSignals[i], launched() ? SIG_IGN : before_[i]);
}

bool InterruptGuard::interrupted() const { return received != 0; }

}  // namespace ood
