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

/// Normalisation constants that such a file has for its inputs, a number a channel; empty: none.
struct InputConstants {
  std::vector<double> mean, deviation;
};
InputConstants constants_of(const std::string& archive);

/// A TorchScript module: its method `features`, or else its call, gives the features [N, D] of
/// inputs [N, C, H, W]; the last layer is ours. Its tensors are named "backbone." and as in Python.
/// UsageError where it is no TorchScript, does not take such inputs, or gives something else; where
/// `trains`, also where its batch normalisation or dropout cannot be switched between training and
/// evaluation.
std::shared_ptr<Classifier> make_script_network(const std::string& archive,
                                                const NetworkShape& shape, bool trains);

}  // namespace ood
