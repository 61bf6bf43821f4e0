#pragma once

#include "ood/models/network_file.h"

namespace ood {

/// What FILE.pt2 says of itself, without running it. UsageError where it is none of ours, as what
/// it takes must be known: its code reads as many numbers as it was made for, whatever it is given.
NetworkNotes package_notes(const std::filesystem::path& file);

/// Machine code of AOTInductor that gives the features [N, D] of inputs [N, C, H, W]; the last
/// layer is ours, and alone is trained. It computes in float32 on the CPU. UsageError where the file
/// is damaged, this machine cannot run it, or it takes other inputs.
std::shared_ptr<Classifier> make_package_network(const std::filesystem::path& file,
                                                 const NetworkShape& shape);

}  // namespace ood
