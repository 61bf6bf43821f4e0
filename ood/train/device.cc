#include "ood/train/device.h"

#include <ATen/Context.h>
#include <dlfcn.h>

#include <filesystem>

#include "ood/distributed/ranks.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

constexpr const char* kDriver = "libcuda.so.1";
constexpr const char* kCudaLibrary = "libtorch_cuda.so";

// Beside the part of LibTorch that the program is linked with.
std::filesystem::path cuda_library() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) == 0) return kCudaLibrary;
  return std::filesystem::path(info.dli_fname).parent_path() / kCudaLibrary;
}

// Why CUDA cannot be used, as far as that shows without loading it; "": it may be there.
std::string cuda_is_missing() {
  if (!std::filesystem::exists(cuda_library()))
    return "this LibTorch has no CUDA; build with one that has, see OOD_LIBTORCH in ./dev help";
  void* driver = dlopen(kDriver, RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return std::string("there is no NVIDIA driver (") + kDriver + ")";
  dlclose(driver);
  return "";
}

// Linked in, it would cost every call of the program half a second and 400 MB.
std::string load_cuda() {
  if (const auto why = cuda_is_missing(); !why.empty()) return why;
  if (dlopen(cuda_library().c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) return dlerror();
  // The same numbers from the same seed.
  at::globalContext().setDeterministicCuDNN(true);
  return "";
}

UsageError no_device(const std::string& name, const std::string& why) {
  return UsageError("`device`: expected one of this machine, got " + name + ": " +
                    why.substr(0, std::min(why.find('\n'), why.find(". "))));
}

}  // namespace

c10::Device open_device(const std::string& name) {
  c10::Device device(c10::kCPU);
  try {
    device = c10::Device(name);
  } catch (const c10::Error&) {
    throw UsageError("`device`: expected cpu, cuda or cuda:N, got " + name);
  }
  if (device.is_cpu()) return c10::Device(c10::kCPU);
  if (!ranks().alone())
    throw UsageError("`device`: expected cpu for several processes, got " + name);
  if (device.is_cuda())
    if (const auto why = load_cuda(); !why.empty()) throw no_device(name, why);
  try {
    torch::empty({1}, device);
  } catch (const c10::Error& e) {
    throw no_device(name, e.what_without_backtrace());
  }
  return device;
}

std::string devices_here() {
  const auto why = cuda_is_missing();
  return "cpu" + (why.empty() ? std::string(", cuda") : "; no cuda: " + why);
}

void move(const Model& model, c10::Device device, at::ScalarType type) {
  // Module::to() would convert counters, too.
  const auto each = [&](at::Tensor t) {
    if (t.device() != device || (t.is_floating_point() && t.scalar_type() != type))
      t.set_data(t.to(device, t.is_floating_point() ? type : t.scalar_type()));
  };
  for (const auto& p : model.network->parameters()) each(p);
  for (const auto& b : model.network->buffers()) each(b);
  model.objective->to(device, type);
}

}  // namespace ood
