#pragma once

#include <filesystem>
#include <optional>

#include "ood/data/task.h"
#include "ood/train/run_options.h"

namespace ood {

/// The options as they stand in a run's config.toml: what a training needs and nobody gave is filled
/// in, by the same rule for every data set and by training and held-out data alone:
///   batch size   128, less where an epoch would have fewer than 16 steps, but at least 16
///   epochs       3, more where that makes fewer than 500 steps, at most 100
///   model        small-cnn for pictures; for embeddings mlp where the objective trains features or,
///                with classes or outliers to tell apart, an embedding, else linear
///   margins      on energies: their medians after a warm-up with cross-entropy, see
///                Card::id_energy; where an earlier training has measured them, from its `measured`
///   weights      of sums over classes: the default divided by their number
///   pretraining  as many epochs as `epochs` would have, where the card says `pretrained`, the
///                weights are random and the inputs pictures
///   rate         of SGD the objective's; a tenth of it where a linear network learns one kind of
///                sample, three times it after a pretraining for a card that says so
/// The bound of the gradient has a fixed default. UsageError where options and
/// task do not fit.
RunOptions completed(const RunOptions& options, const Task& task,
                     const RunOptions* measured = nullptr);

/// The options of a run, its folder or its model's file, where it was trained with the data at that
/// place.
std::optional<RunOptions> trained_with(const std::filesystem::path& run, const std::string& data);

/// Whether a run learned some of what lies at a place, or chose by it: all of its data but their test
/// part. Of a model without the configuration of a run nothing is known.
bool was_learned(const std::filesystem::path& run, const std::filesystem::path& place);

/// Of the inputs [N, D] at a place, how many a run of embeddings learned or chose by, as far as its
/// data are still there; of pictures, which are told by their files, none.
struct LearnedInputs {
  std::int64_t learned = 0, all = 0;
};
LearnedInputs count_learned(const std::filesystem::path& run, const std::string& place);

/// Of a new training, before its data are divided: one that starts from a run holds out what that run
/// did, where both have the data of one place, since what the network has learned says nothing of
/// inputs that it has not.
void take_division(RunOptions& options);
/// Says where that could not be, as with another share that is held out or data that have changed.
void warn_of_learned(const RunOptions& options, const Task& task);

/// UsageError or DataError where that with which such a training would start cannot be used, on all
/// ranks: the weights of a run or a file, the user's own network. Before anything is dropped for it.
void check_start(const RunOptions& completed, const Task& task);

}  // namespace ood
