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

}  // namespace ood::ops
