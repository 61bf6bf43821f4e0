#pragma once

#include "ood/distributed/ranks.h"
#include "ood/train/interrupt.h"
#include "ood/train/run_options.h"

namespace ood {

class Classifier;

/// Trains a network as the encoder of an autoencoder: the known training pictures are to come back
/// out of its embedding, or of its features where the objective takes no embedding, with the least
/// mean squared error; AdamW for `pretrain` epochs, the decoder is dropped. What an objective that
/// draws everything to one point starts from otherwise, random features, tells little apart
/// (Ruff et al.: Deep One-Class Classification, ICML 2018, section 4.1).
///
/// On all ranks at once. False where one of them was asked to stop: then it is not finished.
bool pretrain(Classifier& network, const RunOptions& options, const Task& task, c10::Device device,
              at::ScalarType type, const Ranks& ranks, const InterruptGuard& interrupt);

}  // namespace ood
