#pragma once

#include "ood/distributed/ranks.h"
#include "ood/train/checkpoint.h"

namespace ood {

/// Makes the first rank's model, optimizer and position everybody's.
Position share_state(const Ranks& ranks, const Position& position, const Model& model,
                     Optimizer& optimizer);

/// Makes the first rank's weights and buffers everybody's.
void share_model(const Ranks& ranks, const Model& model);

/// Brings together what ranks keep apart between steps: running statistics of a network, each of
/// its rank's rows, become their mean; all that is computed alike on every rank becomes the first
/// rank's, so that machines that round differently do not drift apart.
void settle(const Ranks& ranks, const Model& model);

}  // namespace ood
