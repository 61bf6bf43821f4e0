#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ood {

/// Random changes of pictures that keep their class, in this order.
struct Augmentation {
  bool flip = false;  ///< left and right exchanged for every second picture
  bool crop = false;  ///< moved by up to an eighth of the side, black beyond the edge
  /// A part of 8 to 100 % of the area, of sides as 3:4 to 4:3, brought to the whole size (Szegedy et
  /// al. 2015, as torchvision's RandomResizedCrop).
  bool resized_crop = false;
  /// Two of 14 operations at magnitude 9 of 30 (Cubuk et al. 2020, as torchvision's RandAugment).
  bool randaugment = false;
  /// Brightness, contrast and saturation by factors of 0.6 to 1.4.
  bool colour = false;
  /// In every second picture a rectangle of 2 to 33 % of the area, of sides as 0.3 to 3.3, filled
  /// with the mean of each of its channels (Zhong et al. 2020; torchvision's RandomErasing fills
  /// with 0).
  bool erase = false;

  bool any() const { return flip || crop || resized_crop || randaugment || colour || erase; }
};

/// One of the 14 operations of RandAugment, in the order of torchvision, at magnitude 9 of 30; `sign`
/// is 1 or -1. uint8 [C, H, W], contiguous.
inline constexpr int kRandAugmentOperations = 14;
at::Tensor randaugment_operation(const at::Tensor& picture, int which, int sign);

/// "flip,crop" or ""; UsageError names what is known.
Augmentation parse_augmentation(const std::string& text);
/// "flip,crop,...": all of them.
std::string augmentation_names();

/// Augments pictures [N, C, H, W]; the numbers of picture i are those of (seed, samples[i]).
at::Tensor augmented(const at::Tensor& pictures, const Augmentation& how, std::uint64_t seed,
                     const std::vector<std::uint64_t>& samples);

}  // namespace ood
