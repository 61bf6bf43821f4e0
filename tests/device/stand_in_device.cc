// A device for tests on machines that have none. Its memory is the CPU's, but readable only while an
// operation of this file runs: whatever else looks at numbers of its tensors ends with SIGSEGV. It
// takes the place of STAND_IN: HPU, which LibTorch knows and has no code for; or PrivateUse1, to which
// modules of C++ cannot be moved, for a Python that has CUDA, beside which HPU cannot be. Where
// OOD_TEST_DEVICE_LOG names a file, each wait of the CPU for the device is a line in it.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <unordered_map>

namespace {

using at::Tensor;
constexpr auto kType = c10::DeviceType::STAND_IN;

void waited_for(const std::string& what) {
  static std::FILE* const log = [] {
    const char* path = std::getenv("OOD_TEST_DEVICE_LOG");
    return path == nullptr ? nullptr : std::fopen(path, "a");
  }();
  if (log == nullptr) return;
  std::fprintf(log, "%s\n", what.c_str());
  std::fflush(log);
}

class Memory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    constexpr std::size_t kPage = 4096;
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + kPage - 1) / kPage * kPage;
    void* p = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK(p != MAP_FAILED, "the stand-in device has no more memory");
    const std::lock_guard lock(mutex_);
    blocks_[p] = {size, 0};
    return {p, p, &release, c10::Device(kType, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void*, const void*, std::size_t) const override {
    TORCH_CHECK(false, "nobody copies memory of the stand-in device by itself");
  }
  // Readable from the first open() to the last close().
  void open(void* p, int change) {
    const std::lock_guard lock(mutex_);
    auto& [size, opened] = blocks_.at(p);
    opened += change;
    mprotect(p, size, opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

 private:
  static void release(void* p);
  std::mutex mutex_;
  std::unordered_map<void*, std::pair<std::size_t, int>> blocks_;
};

// Never destroyed: tensors of static storage outlive it.
Memory& memory() {
  static auto* all = new Memory;
  return *all;
}

void Memory::release(void* p) {
  const std::lock_guard lock(memory().mutex_);
  munmap(p, memory().blocks_.at(p).first);
  memory().blocks_.erase(p);
}

[[maybe_unused]] const bool allocates = (c10::SetAllocator(kType, &memory()), true);

struct Guard final : c10::impl::NoOpDeviceGuardImpl<kType> {
  c10::Device getDevice() const override { return {type(), 0}; }
  c10::Device exchangeDevice(c10::Device) const override { return {type(), 0}; }
  c10::Stream getStream(c10::Device d) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, d);
  }
  c10::Stream getDefaultStream(c10::Device d) const override {
    return c10::Stream(c10::Stream::DEFAULT, d);
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(STAND_IN, Guard);

template <class Interface>
struct Hooks : Interface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
};
struct PrivateUse1Hooks final : Hooks<at::PrivateUse1HooksInterface> {};

struct HpuHooks final : Hooks<at::HPUHooksInterface> {
  bool hasHPU() const override { return true; }
};

[[maybe_unused]] const bool hooked = [] {
  if (kType == c10::DeviceType::PrivateUse1)
    at::RegisterPrivateUse1HooksInterface(new PrivateUse1Hooks);
  else  // that there are some is enough for LibTorch to look for the device
    at::HPUHooksRegistry()->Register(
        "HPUHooks", [](at::HPUHooksArgs) -> std::unique_ptr<at::HPUHooksInterface> {
          return std::make_unique<HpuHooks>();
        });
  return true;
}();

// Gives the memory of tensors to the CPU while it lives.
class Opened {
 public:
  explicit Opened(std::initializer_list<Tensor> tensors) {
    for (const Tensor& t : tensors)
      if (t.device().type() == kType && t.storage().nbytes() > 0)
        open_.push_back(t.storage().mutable_data());
    for (void* p : open_) memory().open(p, 1);
  }
  ~Opened() {
    for (void* p : open_) memory().open(p, -1);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

 private:
  std::vector<void*> open_;
};

// The same memory as a tensor of the CPU.
Tensor on_cpu(const Tensor& t) {
  if (t.device().type() != kType) return t;
  auto* begin = static_cast<char*>(t.storage().mutable_data());
  return at::from_blob(begin + t.storage_offset() * static_cast<std::int64_t>(t.itemsize()),
                       t.sizes(), t.strides(), at::TensorOptions(t.scalar_type()));
}

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::STAND_IN);

Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory(), kKeys, c10::dtype_or_default(type), format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                     std::optional<at::ScalarType> type, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory(), kKeys,
                                           c10::dtype_or_default(type));
}

// Operations that this file has the CPU do read numbers, too; the device itself would not wait.
thread_local int computing = 0;
struct Computing {
  Computing() { ++computing; }
  ~Computing() { --computing; }
};

Tensor copy_from(const Tensor& from, const Tensor& to, bool non_blocking) {
  if (computing == 0 && to.is_cpu()) waited_for("copy to the CPU");
  if (computing == 0 && from.is_cpu() && !non_blocking) waited_for("copy from the CPU");
  const Opened opened{from, to};
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

const Tensor& resized(const Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const auto bytes = static_cast<std::size_t>(c10::multiply_integers(size)) * self.itemsize();
  auto* storage = self.storage().unsafeGetStorageImpl();
  if (storage->nbytes() < bytes) {
    storage->set_data_ptr(memory().allocate(bytes));
    storage->set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.sizes() != from.sizes()) resized(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Scalar number_of(const Tensor& self) {
  if (computing == 0) waited_for("item");
  const Opened opened{self};
  return on_cpu(self).item();
}

using Ints = c10::SymIntArrayRef;
Tensor there(const Tensor& t) { return t.defined() ? t.to(c10::Device(kType, 0)) : t; }
Tensor here(const Tensor& t) { return t.defined() ? t.cpu() : t; }

Tensor convolution(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                   Ints stride, Ints padding, Ints dilation, bool transposed, Ints output_padding,
                   c10::SymInt groups) {
  const Computing now;
  return there(at::convolution_symint(here(x), here(weight), bias ? here(*bias) : Tensor(), stride,
                                      padding, dilation, transposed, output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& grad, const Tensor& x,
                                                        const Tensor& weight, Ints stride,
                                                        Ints padding, Ints dilation,
                                                        bool transposed, Ints output_padding,
                                                        c10::SymInt groups,
                                                        std::array<bool, 3> wanted) {
  const Computing now;
  const auto [a, b, c] = at::convolution_backward_symint(
      here(grad), here(x), here(weight), c10::SymIntArrayRef{weight.sym_size(0)}, stride, padding,
      dilation, transposed, output_padding, groups, wanted);
  return {there(a), there(b), there(c)};
}

// It changes its running statistics, of which its schema does not tell.
std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& x, const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias,
                                              const std::optional<Tensor>& mean,
                                              const std::optional<Tensor>& variance, bool training,
                                              double momentum, double eps) {
  const Computing now;
  const auto cpu = [](const std::optional<Tensor>& t) { return t ? here(*t) : Tensor(); };
  const auto m = cpu(mean), v = cpu(variance);
  const auto [a, b, c] =
      at::native_batch_norm(here(x), cpu(weight), cpu(bias), m, v, training, momentum, eps);
  if (m.defined()) mean->copy_(m);
  if (v.defined()) variance->copy_(v);
  return {there(a), there(b), there(c)};
}

// Whose output has a size that only the numbers tell.
bool needs_numbers(const std::string& op) {
  static const std::set<std::string> all{
      "aten::nonzero",  "aten::masked_select", "aten::equal",     "aten::_unique2",
      "aten::bincount", "aten::unique_dim",    "aten::is_nonzero"};
  return all.count(op) > 0;
}

void by_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const std::string& name = op.schema().name();
  bool by_mask = false;
  if (name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_")
    for (const auto& index :
         stack->at(stack->size() - op.schema().arguments().size() + 1).toListRef())
      by_mask = by_mask || (index.isTensor() && index.toTensor().defined() &&
                            index.toTensor().scalar_type() == at::kBool);
  if ((by_mask || needs_numbers(name)) && computing == 0) waited_for(name);
  // The CPU would not mind.
  for (const c10::IValue& argument : torch::jit::last(*stack, op.schema().arguments().size()))
    TORCH_CHECK(!argument.isTensor() || !argument.toTensor().defined() ||
                    argument.toTensor().device().type() == kType || argument.toTensor().dim() == 0,
                name, ": expected all tensors on the device, got one on the CPU of sizes ",
                argument.toTensor().sizes());
  const Computing now;
  at::native::cpu_fallback(op, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, STAND_IN, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("resize_", resized);
  m.impl("_local_scalar_dense", number_of);
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("native_batch_norm", batch_norm);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}
TORCH_LIBRARY_IMPL(_, STAND_IN, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_cpu>());
}
