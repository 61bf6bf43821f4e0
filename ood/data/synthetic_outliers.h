#pragma once

#include <string>

#include "ood/data/dataset.h"

namespace ood {

/// Outliers for those who have none, made from the training data; as many as there are training
/// samples. `kinds` is a list of
///   noise          every number drawn anew from a picture's own range
///   blur           only the coarse structure is left: averages over a fifth of each side
///   patch-shuffle  a 4x4 grid of patches in a random order
///   cutmix         one half from one sample, the other from a sample of another class
/// in turn over the samples. Embeddings know noise and cutmix. A function of the seed.
/// UsageError names the known kinds.
Inputs make_synthetic_outliers(const Samples& train, const std::string& kinds, std::uint64_t seed);

/// "noise,blur,...": all of them, or those for embeddings.
std::string synthetic_outlier_kinds(bool embeddings = false);

}  // namespace ood
