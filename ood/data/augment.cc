#include "ood/data/augment.h"

#include <algorithm>
#include <sstream>

#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {

Augmentation parse_augmentation(const std::string& text) {
  Augmentation a;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    if (item == "flip")
      a.flip = true;
    else if (item == "crop")
      a.crop = true;
    else
      throw UsageError("`augment`: expected a list of flip, crop, got \"" + item + "\"");
  }
  return a;
}

at::Tensor augmented(const at::Tensor& pictures, const Augmentation& how, std::uint64_t seed,
                     const std::vector<std::uint64_t>& samples) {
  auto out = pictures.clone();
  const std::int64_t h = pictures.size(2), w = pictures.size(3);
  for (std::int64_t i = 0; i < pictures.size(0); ++i) {
    const auto bits = random_bits(seed, Purpose::kAugment, samples[static_cast<std::size_t>(i)], 0);
    auto x = pictures[i];
    if (how.flip && (bits & 1) != 0) x = x.flip({2});
    if (!how.crop) {
      out[i].copy_(x);
      continue;
    }
    const auto shift = [](std::uint64_t r, std::int64_t side) {
      const auto reach = static_cast<std::uint64_t>(std::max<std::int64_t>(side / 8, 1));
      return static_cast<std::int64_t>(r % (2 * reach + 1)) - static_cast<std::int64_t>(reach);
    };
    const std::int64_t dy = shift(bits >> 1 & 0xffff, h), dx = shift(bits >> 17 & 0xffff, w);
    const auto part = [](at::Tensor t, std::int64_t dim, std::int64_t d, bool to) {
      const std::int64_t n = t.size(dim);
      return t.narrow(dim, to ? std::max<std::int64_t>(d, 0) : std::max<std::int64_t>(-d, 0),
                      n - std::abs(d));
    };
    out[i].zero_();
    part(part(out[i], 1, dy, true), 2, dx, true).copy_(part(part(x, 1, dy, false), 2, dx, false));
  }
  return out;
}

}  // namespace ood
