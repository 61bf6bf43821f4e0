#include "apps/ood/memory.h"

#ifdef OOD_TCMALLOC
#include <gperftools/malloc_extension.h>
#include <gperftools/malloc_hook.h>
#include <gperftools/tcmalloc.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <new>
#else
#include <malloc.h>
#endif

namespace ood::app {

// A training step frees and asks again for the same large buffers. glibc gives each back to the
// system by default and faults it in anew, which costs more than the arithmetic.
#ifdef OOD_TCMALLOC
namespace {

// tcmalloc keeps what is freed, but what it keeps fits badly when the next step asks in another
// order: it takes half as much again as was ever in use. Below a limit it gives back what lies
// unused rather than to take more; the limit is a sixteenth above what was in use.
class MemoryLimit {
 public:
  static MemoryLimit& instance() {
    static MemoryLimit limit;
    return limit;
  }

  // The allocator complains aloud where it is small pieces that do not fit, so that it is looked at
  // what is in use whenever a thread has asked for so much.
  static void allocated(const void* /*memory*/, std::size_t bytes) {
    thread_local std::size_t since = 0;
    since += bytes;
    if (since < kMegabyte) return;
    since = 0;
    instance().follow();
  }

  static void does_not_fit() { instance().raise(); }

 private:
  static constexpr std::size_t kMegabyte = 1 << 20;
  static constexpr std::size_t kWorthwhile = 512, kRoom = 64;  // MB
  static constexpr std::size_t kShare = 16;

  static std::size_t property(const char* name) {
    std::size_t value = 0;
    MallocExtension::instance()->GetNumericProperty(name, &value);
    return value;
  }

  void follow() {
    // In this order, what is given back between counts as unused twice and not as in use.
    const auto free = property("tcmalloc.pageheap_free_bytes");
    const auto unused = free + property("tcmalloc.pageheap_unmapped_bytes");
    const auto heap = property("generic.heap_size");
    const auto in_use = (heap - std::min(heap, unused)) / kMegabyte;
    const std::scoped_lock lock(mutex_);
    // What was asked for in vain is over.
    const bool again = limit_ > most_;
    set(std::max({again ? 0 : limit_, kWorthwhile, in_use + kRoom, in_use + in_use / kShare}));
    if (again) std::set_new_handler(does_not_fit);
  }

  // Where an allocation does not fit though all that is unused was given back. Without a handler it
  // fails; to throw from here would take memory.
  void raise() {
    const std::scoped_lock lock(mutex_);
    if (limit_ > most_)
      std::set_new_handler(nullptr);
    else
      set(std::max(limit_, kWorthwhile) * (kShare + 1) / kShare);
  }

  void set(std::size_t megabytes) {
    if (megabytes == limit_) return;
    limit_ = megabytes;
    MallocExtension::instance()->SetNumericProperty("tcmalloc.heap_limit_mb", megabytes);
  }

  // MB; twice what there is, for memory that is asked for and never touched.
  const std::size_t most_ = 2 * static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                            static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) / kMegabyte;
  std::mutex mutex_;
  std::size_t limit_ = 0;
};

}  // namespace

void hold_memory() {
  std::size_t users = 0;
  MallocExtension::instance()->GetNumericProperty("tcmalloc.heap_limit_mb", &users);
  if (users > 0) return;
  std::set_new_handler(MemoryLimit::does_not_fit);
  tc_set_new_mode(1);  // malloc asks the handler, too
  MallocHook::AddNewHook(MemoryLimit::allocated);
}
#else
void hold_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
}
#endif

}  // namespace ood::app
