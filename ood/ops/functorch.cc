#include "ood/ops/functorch.h"

#include <ATen/FuncTorchTLS.h>

namespace ood::ops {
namespace {

bool functorch_active() {
  const auto& tls = at::functorch::functorchTLSAccessor();
  if (!tls) return false;
  try {
    tls->checkSupportsCppAutogradFunction();
  } catch (const std::exception&) {
    return true;
  }
  return false;
}

}  // namespace

bool fused(const at::Tensor& t) {
  constexpr std::uint64_t kForwardLevel = 0;
  return (t.is_cpu() || t.is_meta()) && !t._fw_grad(kForwardLevel).defined() && !functorch_active();
}

bool readable(const at::Tensor& t) {
  using c10::DispatchKey;
  constexpr c10::DispatchKeySet kWrapped({DispatchKey::Python, DispatchKey::Functionalize,
                                          DispatchKey::ZeroTensor, DispatchKey::FuncTorchBatched,
                                          DispatchKey::FuncTorchGradWrapper});
  return t.is_cpu() && !t.key_set().has_any(kWrapped) && t.has_storage() &&
         (t.numel() == 0 || t.const_data_ptr() != nullptr);
}

}  // namespace ood::ops
