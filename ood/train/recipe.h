#pragma once

#include "ood/data/task.h"
#include "ood/train/run_options.h"

namespace ood {

/// Fills in what a training needs and nobody gave, the same rule for every data set and by training
/// and held-out data alone:
///   batch size   128, less where an epoch would have fewer than 16 steps, but at least 16
///   epochs       3, more where that makes fewer than 500 steps, at most 100
///   model        small-cnn for pictures; for embeddings mlp where the objective trains features or
///                an embedding, else linear
///   margins      on energies: their medians after a warm-up with cross-entropy, see
///                Card::id_energy; from `measured` where an earlier training has them
///   weights      of sums over classes: the default divided by their number
/// The learning rate and the bound of the gradient have fixed defaults.
void fill_in(RunOptions& options, const Task& task, const RunOptions* measured = nullptr);

}  // namespace ood
