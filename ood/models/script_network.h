#pragma once

#include <string>
#include <vector>

#include "ood/models/classifier.h"

namespace ood {

/// What the description of a model says of a network that is not one of ours.
inline constexpr const char* kScriptNetwork = "torchscript";

/// Whether `model` is the path of a network of the user's own, as `python -m ood.to_program` makes
/// them: it ends with ".pt".
bool is_script_file(const std::string& model);

/// The content of such a file; UsageError where there is none.
std::string read_script_file(const std::string& path);

/// What such a file says of itself.
struct ScriptNotes {
  std::vector<double> mean, deviation;  ///< to normalise inputs by, a channel; empty: nothing
  std::string method;                   ///< gives the features; "": `features`, or else the call
};
/// UsageError where that is damaged.
ScriptNotes script_notes(const std::string& archive);

/// A TorchScript module: its method `features`, or else its call, gives the features [N, D] of
/// inputs [N, C, H, W]; the last layer is ours. Its tensors are named "backbone." and as in Python.
/// UsageError where it is no TorchScript, does not take such inputs, gives something else, or always
/// trains as a trace may; where `trains`, also where it always evaluates, or has nothing to train.
std::shared_ptr<Classifier> make_script_network(const std::string& archive,
                                                const NetworkShape& shape, bool trains);

}  // namespace ood
