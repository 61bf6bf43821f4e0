#pragma once

#include <functional>

#include "ood/distributed/ranks.h"
#include "ood/train/interrupt.h"
#include "ood/train/model_file.h"
#include "ood/train/run_options.h"

namespace ood {

/// Trains a network as the encoder of an autoencoder: the known training pictures are to come back
/// out of its embedding, or of its features where the objective takes no embedding, with the least
/// mean squared error; AdamW for `pretrain` epochs, the decoder is dropped. What an objective that
/// draws everything to one point starts from otherwise, random features, tells little apart
/// (Ruff et al.: Deep One-Class Classification, ICML 2018, section 4.1).
///
/// `forward` is the network's, in the precision of the training; on all ranks at once. False where
/// one of them was asked to stop before the end. DivergedError; UsageError where no weight of the
/// network has a part in what is given back.
bool pretrain(const Model& model, const std::function<NetworkOutput(const at::Tensor&)>& forward,
              const RunOptions& options, const Task& task, c10::Device device, at::ScalarType type,
              const Ranks& ranks, const InterruptGuard& interrupt);

}  // namespace ood
