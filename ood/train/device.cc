#include "ood/train/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <dlfcn.h>

#include <filesystem>

#include "ood/distributed/ranks.h"
#include "ood/errors.h"
#include "ood/torch.h"
#include "ood/train/evaluate.h"

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

// Linked in, it would cost every call of the program half a second and 400 MB. Why it cannot be; "":
// it is there.
std::string load_cuda() {
  if (!std::filesystem::exists(cuda_library()))
    return "this LibTorch has no CUDA; build with one that has, see OOD_LIBTORCH in ./dev help";
  void* driver = dlopen(kDriver, RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return std::string("there is no NVIDIA driver (") + kDriver + ")";
  dlclose(driver);
  if (dlopen(cuda_library().c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
    return std::string(dlerror()) + " (`./dev python` fetches what belongs to it)";
  // What a number is: float32 in convolutions, too, and as often as possible the same again.
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
  return "";
}

UsageError no_device(const std::string& name, std::string why) {
  // LibTorch's advice to those who build it is longer than what went wrong.
  for (const char* advice : {"\n", " This could be because"}) why = why.substr(0, why.find(advice));
  return UsageError("`device`: expected one of this machine, got " + name + ": " + why);
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
  if (!at::accelerator::isAccelerator(device.type()))
    throw UsageError("`device`: expected cpu, cuda or cuda:N, got " + name);
  if (!ranks().alone())
    throw UsageError("`device`: expected cpu for several processes, got " + name);
  if (device.is_cuda())
    if (const auto why = load_cuda(); !why.empty()) throw no_device(name, why);
  try {
    torch::ones({1}, device).item<float>();  // that there is memory does not say that it computes
  } catch (const c10::Error& e) {
    throw no_device(name, e.what_without_backtrace());
  }
  return device;
}

std::string devices_here() {
  const auto why = load_cuda();
  return "cpu" + (why.empty() ? std::string(", cuda") : "; no cuda: " + why);
}

Tf32::Tf32(bool on) : on_(on), before_(on && at::globalContext().allowTF32CuDNN()) {
  if (on_) at::globalContext().setAllowTF32CuDNN(true);
}
Tf32::~Tf32() {
  if (on_) at::globalContext().setAllowTF32CuDNN(before_);
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

void compute_on(c10::Device device, Classifier& network, bool of_user,
                const std::vector<double>& mean, const std::vector<double>& deviation,
                const std::function<Inputs()>& inputs) {
  if (device.is_cpu()) return;
  for (auto& t : network.parameters()) t.set_data(t.to(device));
  for (auto& t : network.buffers()) t.set_data(t.to(device));
  if (!of_user) return;
  try {
    run_network(network, mean, deviation, inputs());
  } catch (const Error& e) {
    throw UsageError("`device`: expected a network that can be on " + device.str() +
                     ", got a file that cannot: " + e.what());
  }
}

}  // namespace ood
