#pragma once

#include "ood/torch.h"

namespace ood {

/// Lays the weights of a convolution out, also those of a single input channel: .contiguous()
/// leaves them as they are, they count as both layouts, and what follows is in the one that their
/// strides say; channels-first a maximum takes ten times as long.
inline void set_weight_layout(at::Tensor& weight,
                              at::MemoryFormat layout = at::MemoryFormat::ChannelsLast) {
  weight.set_data(
      torch::empty(weight.sizes(), weight.options().memory_format(layout)).copy_(weight.detach()));
}

}  // namespace ood
