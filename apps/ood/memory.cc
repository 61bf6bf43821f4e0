#include "apps/ood/memory.h"

#ifdef OOD_TCMALLOC
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <gperftools/malloc_extension.h>
#include <gperftools/tcmalloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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
// unused rather than to take more; the limit is an eighth above what was in use.
class MemoryLimit {
 public:
  MemoryLimit() {
    std::set_new_handler([] { instance().raise(); });
    tc_set_new_mode(1);  // malloc asks the handler, too
  }

  static MemoryLimit& instance() {
    static MemoryLimit limit;
    return limit;
  }

  // The allocator complains aloud where it is small pieces that do not fit: before that, there is
  // to be room for many.
  void follow() {
    const auto held = property("generic.heap_size") - property("tcmalloc.pageheap_unmapped_bytes");
    const auto in_use = (held - property("tcmalloc.pageheap_free_bytes")) / kMegabyte;
    set(std::max({limit_.load(), kWorthwhile, in_use + kRoom, in_use + in_use / kShare}));
  }

 private:
  static constexpr std::size_t kMegabyte = 1 << 20;
  static constexpr std::size_t kWorthwhile = 512, kRoom = 128;  // MB
  static constexpr std::size_t kShare = 8;

  static std::size_t property(const char* name) {
    std::size_t value = 0;
    MallocExtension::instance()->GetNumericProperty(name, &value);
    return value;
  }

  // Where an allocation does not fit though all that is unused was given back. Without a handler it
  // fails; to throw from here would take memory.
  void raise() {
    static const std::size_t physical = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                        static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) / kMegabyte;
    // Twice, for memory that is asked for and never touched.
    const std::size_t limit = limit_;
    if (limit == 0 || limit > 2 * physical)
      std::set_new_handler(nullptr);
    else
      set(limit + limit / kShare);
  }

  // Of several threads that set it the last one wins, and the others ask again.
  void set(std::size_t megabytes) {
    if (limit_.exchange(megabytes) != megabytes)
      MallocExtension::instance()->SetNumericProperty("tcmalloc.heap_limit_mb", megabytes);
  }

  std::atomic<std::size_t> limit_{0};
};

class LimitedAllocator final : public c10::Allocator {
 public:
  explicit LimitedAllocator(c10::Allocator& below) : below_(below) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    constexpr std::size_t kLarge = std::size_t{1} << 20;
    if (bytes >= kLarge) MemoryLimit::instance().follow();
    return below_.allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return below_.raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    below_.copy_data(to, from, bytes);
  }

 private:
  c10::Allocator& below_;
};

}  // namespace

void hold_memory() {
  std::size_t users = 0;
  MallocExtension::instance()->GetNumericProperty("tcmalloc.heap_limit_mb", &users);
  if (users > 0) return;
  static LimitedAllocator limited(*c10::GetCPUAllocator());
  constexpr std::uint8_t kBeforeOthers = 1;
  c10::SetCPUAllocator(&limited, kBeforeOthers);
}
#else
void hold_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
}
#endif

}  // namespace ood::app
