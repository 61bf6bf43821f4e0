#include "ood/ops/functorch.h"

#include <ATen/FuncTorchTLS.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

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

bool only_cpu_kernels_see(std::initializer_list<const at::Tensor*> tensors) {
  c10::DispatchKeySet keys;
  for (const auto* t : tensors)
    if (t->defined()) keys = keys | t->key_set();
  const auto tls = c10::impl::tls_local_dispatch_key_set();
  const auto seen =
      ((keys | tls.included_) - tls.excluded_).remove(c10::DispatchKey::BackendSelect);
  return seen == c10::DispatchKeySet(c10::DispatchKey::CPU);
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
