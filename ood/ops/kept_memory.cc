#include "ood/ops/kept_memory.h"

#include <ATen/EmptyTensor.h>
#include <c10/core/Allocator.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace ood::ops {
namespace {

constexpr std::size_t kPage = 2 << 20;  // a huge page
constexpr std::size_t kLarge = 4 * kPage;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Block {
  std::unique_ptr<void, Free> memory;
  std::size_t size = 0;
};

struct Waiting {
  std::mutex mutex;
  Block block;
};

// Never destroyed: a gradient may be freed after everything else has been.
Waiting& waiting() {
  static auto* one = new Waiting;
  return *one;
}

Block fresh(std::size_t bytes) {
  const std::size_t size = (bytes + kPage - 1) / kPage * kPage;
  Block block{std::unique_ptr<void, Free>(std::aligned_alloc(kPage, size)), size};
  TORCH_CHECK(block.memory != nullptr, "not enough memory for a gradient of ", bytes, " bytes");
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(block.memory.get(), size, MADV_HUGEPAGE);
#endif
  return block;
}

void report(void* memory, std::int64_t bytes) {
  if (c10::memoryProfilingEnabled())
    c10::reportMemoryUsageToProfiler(memory, bytes, 0, 0, c10::Device(c10::DeviceType::CPU));
}

void give_back(void* context) {
  std::unique_ptr<Block> block(static_cast<Block*>(context));
  report(block->memory.get(), -static_cast<std::int64_t>(block->size));
  const std::lock_guard lock(waiting().mutex);
  std::swap(waiting().block, *block);  // what waited before is freed
}

class KeptMemory : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    auto block = std::make_unique<Block>();
    {
      const std::lock_guard lock(waiting().mutex);
      const std::size_t size = waiting().block.size;
      if (size >= bytes && size <= 2 * bytes) std::swap(*block, waiting().block);
    }
    if (block->memory == nullptr) *block = fresh(bytes);
    void* memory = block->memory.get();
    report(memory, static_cast<std::int64_t>(block->size));
    return {memory, block.release(), &give_back, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

at::Tensor empty_for_step(at::IntArrayRef sizes, at::ScalarType type) {
  static auto* kept = new KeptMemory;
  if (static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(type) < kLarge)
    return at::detail::empty_cpu(sizes, type);
  return at::detail::empty_generic(sizes, kept, c10::DispatchKeySet(c10::DispatchKey::CPU), type,
                                   std::nullopt);
}

}  // namespace ood::ops
