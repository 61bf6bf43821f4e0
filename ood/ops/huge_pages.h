#pragma once

#include <ATen/core/Tensor.h>

namespace ood::ops {

/// Asks the system to back a large new tensor, of which nothing has been written yet, with pages of
/// 2 MiB. The allocator gives very large tensors back when they die, so each gradient of such a
/// batch is fresh memory, and with pages of 4 KiB mapping it costs several times as much as
/// computing it. A wish: where the system does not know it, nothing changes.
void prefer_huge_pages(const at::Tensor& fresh);

}  // namespace ood::ops
