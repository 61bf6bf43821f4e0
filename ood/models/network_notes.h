#pragma once

#include "ood/models/network_file.h"

namespace ood {

inline constexpr const char* kRemedy = "; make it with: python -m ood.to_program";

/// LibTorch's messages have many lines, of which the first says what went wrong.
inline std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// Of the JSON that `python -m ood.to_program` puts into a file; "": of a file of another maker.
NetworkNotes parse_notes(const std::string& text);

/// Inputs that a network of the user's own is tried with.
inline constexpr std::int64_t kRowsTried = 2;
/// UsageError where what a network gave of kRowsTried inputs are no features.
void check_features(const at::Tensor& features);

}  // namespace ood
