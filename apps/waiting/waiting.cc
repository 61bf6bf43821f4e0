// How long a thread that waits for the others of its team keeps its processor busy. GNU's OpenMP
// spins for milliseconds by default; where another process takes one of the processors, the one that
// would end the wait does not get to run, and a training takes eight times as long. Thousands of
// turns, some ten microseconds, are as fast on a machine that is idle.
//
// OpenMP reads its environment when it is loaded, before main(): this is a library of its own, which
// the program is linked with last, so that it is initialised first.

#include <cstdlib>

namespace {

[[gnu::constructor]] void wait_briefly() {
  constexpr int kKeepTheUsers = 0;
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", "5000", kKeepTheUsers);
}

}  // namespace
