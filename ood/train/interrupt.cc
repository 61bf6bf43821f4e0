#include "ood/train/interrupt.h"

#include <csignal>

namespace ood {
namespace {

// A lost terminal is a wish to stop, too.
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t received = 0;

void remember(int signal) {
  received = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  received = 0;
  for (const int signal : kSignals) std::signal(signal, remember);
}

InterruptGuard::~InterruptGuard() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

bool InterruptGuard::interrupted() const { return received != 0; }

}  // namespace ood
