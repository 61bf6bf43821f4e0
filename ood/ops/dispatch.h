#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>

#include "ood/registry/slice.h"

/// What the dispatch of all ops shares.
namespace ood::ops {

/// The operator ood::NAME by its C++ signature.
template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

inline bool wants(std::int64_t wanted, std::size_t input) { return (wanted >> input & 1) != 0; }

/// The gradients of `output` for `upstream`, with a graph of their own, for create_graph: only
/// ordinary operations have derivatives of any order. Of views of the inputs: where one was
/// computed from another, a gradient by the input itself would follow that path, too. As many as
/// inputs; undefined where the bit in `wanted` is not set.
std::vector<at::Tensor> gradients_with_graph(
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& output, Tensors inputs,
    std::int64_t wanted, const at::Tensor& upstream);

}  // namespace ood::ops
