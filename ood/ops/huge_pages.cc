#include "ood/ops/huge_pages.h"

#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace ood::ops {

void prefer_huge_pages([[maybe_unused]] const at::Tensor& fresh) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kPage = 2 << 20;
  // Below that the allocator reuses memory, or a page more costs more than its faults.
  constexpr std::size_t kLarge = 4 * kPage;
  if (!fresh.is_cpu() || fresh.nbytes() < kLarge) return;
  const auto address = reinterpret_cast<std::uintptr_t>(fresh.mutable_data_ptr());
  const std::uintptr_t begin = (address + kPage - 1) / kPage * kPage;
  const std::uintptr_t end = (address + fresh.nbytes()) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace ood::ops
