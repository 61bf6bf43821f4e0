#pragma once

#include "ood/models/network_file.h"

namespace ood {

/// What the content of FILE.pt says of itself; UsageError where it is no TorchScript.
NetworkNotes script_notes(const std::string& content);

/// A TorchScript module: its method `features`, or else its call, gives the features [N, D] of
/// inputs [N, C, H, W]; the last layer is ours. Its tensors are named "backbone." and as in Python.
/// UsageError where it is no TorchScript, does not take such inputs, gives something else, or always
/// trains as a trace may; where `trains`, also where it always evaluates, or has nothing to train.
std::shared_ptr<Classifier> make_script_network(const std::string& content,
                                                const NetworkShape& shape, bool trains);

}  // namespace ood
