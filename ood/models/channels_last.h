#pragma once

#include "ood/torch.h"

namespace ood {

/// Lays the weights of a convolution out channels-last, also those of a single input channel:
/// .contiguous() leaves them as they are, they count as both, and then all that follows is
/// channels-first, where a maximum takes ten times as long.
inline void make_channels_last(at::Tensor& weight) {
  weight.set_data(
      torch::empty(weight.sizes(), weight.options().memory_format(at::MemoryFormat::ChannelsLast))
          .copy_(weight.detach()));
}

}  // namespace ood
