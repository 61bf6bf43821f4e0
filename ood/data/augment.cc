#include "ood/data/augment.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <sstream>

#include "ood/data/picture_changes.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

// The one list of them.
template <class Visit>
void visit_augmentation(Augmentation& a, const Visit& visit) {
  visit("flip", a.flip);
  visit("crop", a.crop);
  visit("resized-crop", a.resized_crop);
  visit("randaugment", a.randaugment);
  visit("colour", a.colour);
  visit("erase", a.erase);
}

// The numbers of one sample after its first, which flip and crop take their bits from.
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint64_t sample) : seed_(seed), sample_(sample) {}

  std::uint64_t bits() { return random_bits(seed_, Purpose::kAugment, sample_, ++next_); }
  /// Uniform from `low` to below `high`.
  double from_to(double low, double high) {
    constexpr double kUnit = 0x1p-53;
    constexpr int kSpare = 11;
    return low + (high - low) * static_cast<double>(bits() >> kSpare) * kUnit;
  }
  /// Of 0 .. n-1.
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(from_to(0, static_cast<double>(n)));
  }

 private:
  std::uint64_t seed_, sample_, next_ = 0;
};

struct Rectangle {
  std::int64_t top, left, height, width;
};

// Of a share of the area and a ratio of width to height, both drawn; none where ten do not fit. `whole`:
// it may have a whole side.
std::optional<Rectangle> drawn_rectangle(Draws& draws, const at::Tensor& x, double least,
                                         double most, double narrowest, double widest, bool whole) {
  constexpr int kTries = 10;
  const auto h = x.size(1), w = x.size(2);
  for (int i = 0; i < kTries; ++i) {
    const double area = static_cast<double>(h * w) * draws.from_to(least, most);
    const double ratio = std::exp(draws.from_to(std::log(narrowest), std::log(widest)));
    const auto height = std::llround(std::sqrt(area / ratio)),
               width = std::llround(std::sqrt(area * ratio));
    if (height < 1 || width < 1 || height >= h + whole || width >= w + whole) continue;
    return Rectangle{draws.below(h - height + 1), draws.below(w - width + 1), height, width};
  }
  return std::nullopt;
}

// The largest part of sides that a resized crop may have.
constexpr double kNarrow = 3.0 / 4, kWide = 4.0 / 3;
Rectangle middle_of(const at::Tensor& x) {
  const auto h = x.size(1), w = x.size(2);
  const auto part = [](std::int64_t side, double most) {
    return std::clamp<std::int64_t>(std::llround(most), 1, side);
  };
  const auto height = part(h, static_cast<double>(w) / kNarrow),
             width = part(w, static_cast<double>(h) * kWide);
  return {(h - height) / 2, (w - width) / 2, height, width};
}

at::Tensor moved(const at::Tensor& x, std::uint64_t bits) {
  const auto shift = [](std::uint64_t r, std::int64_t side) {
    const auto reach = static_cast<std::uint64_t>(std::max<std::int64_t>(side / 8, 1));
    return static_cast<std::int64_t>(r % (2 * reach + 1)) - static_cast<std::int64_t>(reach);
  };
  const std::int64_t dy = shift(bits >> 1 & 0xffff, x.size(1)),
                     dx = shift(bits >> 17 & 0xffff, x.size(2));
  const auto part = [](const at::Tensor& t, std::int64_t dim, std::int64_t d, bool to) {
    return t.narrow(dim, std::max<std::int64_t>(to ? d : -d, 0), t.size(dim) - std::abs(d));
  };
  auto out = torch::zeros_like(x);
  part(part(out, 1, dy, true), 2, dx, true).copy_(part(part(x, 1, dy, false), 2, dx, false));
  return out;
}

at::Tensor augmented_one(at::Tensor x, const Augmentation& how, std::uint64_t seed,
                         std::uint64_t sample) {
  const auto bits = random_bits(seed, Purpose::kAugment, sample, 0);
  Draws draws(seed, sample);
  if (how.flip && (bits & 1) != 0) x = x.flip({2});
  if (how.crop) x = moved(x, bits);
  x = x.contiguous();
  if (how.resized_crop) {
    const auto r =
        drawn_rectangle(draws, x, 0.08, 1, kNarrow, kWide, /*whole=*/true).value_or(middle_of(x));
    x = changes::resized_part(x, r.top, r.left, r.height, r.width);
  }
  constexpr int kChosen = 2;
  for (int i = 0; how.randaugment && i < kChosen; ++i) {
    const auto which = static_cast<int>(draws.below(kRandAugmentOperations));
    x = randaugment_operation(x, which, (draws.bits() & 1) != 0 ? 1 : -1);
  }
  if (how.colour) {
    x = changes::brightness(x, draws.from_to(0.6, 1.4));
    x = changes::contrast(x, draws.from_to(0.6, 1.4));
    x = changes::saturation(x, draws.from_to(0.6, 1.4));
  }
  if (how.erase && (draws.bits() & 1) != 0)
    if (const auto r = drawn_rectangle(draws, x, 0.02, 0.33, 0.3, 3.3, /*whole=*/false))
      x = changes::erased(x, r->top, r->left, r->height, r->width);
  return x;
}

}  // namespace

at::Tensor randaugment_operation(const at::Tensor& x, int which, int sign) {
  constexpr double kMagnitude = 9, kMagnitudes = 30, kShare = kMagnitude / kMagnitudes;
  const double factor = 1 + sign * 0.9 * kShare;
  const double shear = sign * 0.3 * kShare;
  // Where a pixel comes from, is the other way than where it goes.
  const double shift = -sign * 150.0 / 331.0 * kShare;
  const double angle = -sign * 30 * kShare * std::numbers::pi / 180;
  const auto h = static_cast<double>(x.size(1)), w = static_cast<double>(x.size(2));
  const double c = std::cos(angle), s = std::sin(angle);
  switch (which) {
    case 0:
      return x;
    case 1:
      return changes::affine(x, {1, shear, 0, 0, 1, 0});
    case 2:
      return changes::affine(x, {1, 0, 0, shear, 1, 0});
    case 3:
      return changes::affine(x, {1, 0, std::trunc(shift * w), 0, 1, 0});
    case 4:
      return changes::affine(x, {1, 0, 0, 0, 1, std::trunc(shift * h)});
    case 5:  // about the middle
      return changes::affine(
          x, {c, s, w / 2 - c * w / 2 - s * h / 2, -s, c, h / 2 + s * w / 2 - c * h / 2});
    case 6:
      return changes::brightness(x, factor);
    case 7:
      return changes::saturation(x, factor);
    case 8:
      return changes::contrast(x, factor);
    case 9:
      return changes::sharpness(x, factor);
    case 10:
      return changes::posterize(x, 8 - static_cast<int>(std::lround(4 * kShare)));
    case 11:
      return changes::solarize(x, static_cast<int>(std::ceil(255 * (1 - kShare))));
    case 12:
      return changes::autocontrast(x);
    default:
      return changes::equalize(x);
  }
}

std::string augmentation_names() {
  Augmentation a;
  std::string names;
  visit_augmentation(
      a, [&](const char* name, bool) { names += (names.empty() ? "" : ",") + std::string(name); });
  return names;
}

Augmentation parse_augmentation(const std::string& text) {
  Augmentation a;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    bool known = false;
    visit_augmentation(a, [&](const char* name, bool& on) {
      if (item == name) on = known = true;
    });
    if (!known)
      throw UsageError("`augment`: expected a list of " + augmentation_names() + ", got \"" + item +
                       "\"");
  }
  return a;
}

at::Tensor augmented(const at::Tensor& pictures, const Augmentation& how, std::uint64_t seed,
                     const std::vector<std::uint64_t>& samples) {
  auto out = torch::empty_like(pictures);
  at::parallel_for(0, pictures.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i)
      out[i].copy_(augmented_one(pictures[i], how, seed, samples[static_cast<std::size_t>(i)]));
  });
  return out;
}

}  // namespace ood
