#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ood {

/// Random changes of pictures that keep their class.
struct Augmentation {
  bool flip = false;  ///< left and right exchanged for every second picture
  bool crop = false;  ///< moved by up to an eighth of the side, black beyond the edge

  bool any() const { return flip || crop; }
};

/// "flip,crop" or ""; UsageError names what is known.
Augmentation parse_augmentation(const std::string& text);

/// Augments pictures [N, C, H, W]; the numbers of picture i are those of (seed, samples[i]).
at::Tensor augmented(const at::Tensor& pictures, const Augmentation& how, std::uint64_t seed,
                     const std::vector<std::uint64_t>& samples);

}  // namespace ood
