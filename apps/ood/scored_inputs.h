#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ood/data/dataset.h"
#include "ood/train/detector.h"

namespace ood::app {

/// Some inputs, in their order.
struct ScoredInputs {
  std::vector<std::string> names;   ///< path of a picture, else the index
  std::vector<std::string> errors;  ///< why one was not scored; "": it was
  Detector::Answer answer;          ///< of those that were, a row each
  std::int64_t not_finite = 0;      ///< how many errors are of the network's numbers
};

/// Scores what lies in a file or folder, part by part as it is decoded, whether it has labels or
/// not. DataError where it is nothing that the detector takes; a picture that does not decode and
/// an input without a score are errors of theirs alone.
void score_inputs(const Detector& detector, const std::string& data, const PictureOptions& pictures,
                  const std::function<void(const ScoredInputs&)>& visit);

}  // namespace ood::app
