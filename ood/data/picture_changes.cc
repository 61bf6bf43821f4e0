#include "ood/data/picture_changes.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ood/torch.h"

namespace ood::changes {
namespace {

using Byte = std::uint8_t;
using Table = std::array<Byte, 256>;
constexpr int kMost = 255;

Byte cut(float v) { return static_cast<Byte>(std::clamp(v, 0.0f, static_cast<float>(kMost))); }

std::int64_t area(const at::Tensor& x) { return x.size(1) * x.size(2); }

// other(channel, pixel) + factor (x - other), in float32 as Pillow has it.
template <class Other>
at::Tensor blended(const at::Tensor& x, double factor, const Other& other) {
  auto out = torch::empty_like(x);
  const Byte* from = x.const_data_ptr<Byte>();
  Byte* to = out.mutable_data_ptr<Byte>();
  const auto n = area(x);
  for (std::int64_t c = 0; c < x.size(0); ++c)
    for (std::int64_t i = 0; i < n; ++i, ++from, ++to) {
      const auto o = static_cast<float>(other(c, i));
      *to = cut(o + static_cast<float>(factor) * (static_cast<float>(*from) - o));
    }
  return out;
}

// ITU-R BT.601, in the whole numbers of Pillow.
std::vector<Byte> grey_of(const at::Tensor& x) {
  constexpr std::uint32_t kRed = 19595, kGreen = 38470, kBlue = 7471, kHalf = 0x8000;
  const auto n = static_cast<std::size_t>(area(x));
  const Byte* p = x.const_data_ptr<Byte>();
  std::vector<Byte> grey(p, p + n);
  if (x.size(0) == 3)
    for (std::size_t i = 0; i < n; ++i)
      grey[i] =
          static_cast<Byte>((p[i] * kRed + p[n + i] * kGreen + p[2 * n + i] * kBlue + kHalf) >> 16);
  return grey;
}

template <class TableOf>
at::Tensor looked_up(const at::Tensor& x, const TableOf& table_of) {
  auto out = torch::empty_like(x);
  const auto n = area(x);
  for (std::int64_t c = 0; c < x.size(0); ++c) {
    const Byte* from = x.const_data_ptr<Byte>() + c * n;
    Byte* to = out.mutable_data_ptr<Byte>() + c * n;
    const Table table = table_of(from, n);
    for (std::int64_t i = 0; i < n; ++i) to[i] = table[from[i]];
  }
  return out;
}

template <class Value>
Table table_by(const Value& value) {
  Table t;
  for (int v = 0; v <= kMost; ++v) t[static_cast<std::size_t>(v)] = value(v);
  return t;
}

std::array<std::int64_t, 256> counts(const Byte* from, std::int64_t n) {
  std::array<std::int64_t, 256> count{};
  for (std::int64_t i = 0; i < n; ++i) ++count[from[i]];
  return count;
}

}  // namespace

at::Tensor brightness(const at::Tensor& x, double factor) {
  return blended(x, factor, [](std::int64_t, std::int64_t) { return 0; });
}

at::Tensor contrast(const at::Tensor& x, double factor) {
  const auto grey = grey_of(x);
  double sum = 0;
  for (const Byte v : grey) sum += v;
  const double mean = std::floor(sum / static_cast<double>(grey.size()) + 0.5);
  return blended(x, factor, [&](std::int64_t, std::int64_t) { return mean; });
}

at::Tensor saturation(const at::Tensor& x, double factor) {
  if (x.size(0) == 1) return x;
  const auto grey = grey_of(x);
  return blended(x, factor,
                 [&](std::int64_t, std::int64_t i) { return grey[static_cast<std::size_t>(i)]; });
}

at::Tensor sharpness(const at::Tensor& x, double factor) {
  // 1 1 1, 1 5 1, 1 1 1 over 13; pixels at the edge stay.
  constexpr double kSum = 13;
  constexpr int kMiddle = 4;
  const auto h = x.size(1), w = x.size(2);
  const Byte* all = x.const_data_ptr<Byte>();
  return blended(x, factor, [&](std::int64_t c, std::int64_t i) {
    const Byte* p = all + c * h * w + i;
    const auto row = i / w, column = i % w;
    if (row == 0 || column == 0 || row == h - 1 || column == w - 1) return static_cast<double>(*p);
    int sum = kMiddle * *p;
    for (const auto d : {-w, std::int64_t{0}, w}) sum += p[d - 1] + p[d] + p[d + 1];
    return std::floor(sum / kSum + 0.5);
  });
}

at::Tensor posterize(const at::Tensor& x, int bits) {
  const auto mask = static_cast<Byte>(kMost << (8 - bits));
  const auto table = table_by([&](int v) { return static_cast<Byte>(v & mask); });
  return looked_up(x, [&](const Byte*, std::int64_t) { return table; });
}

at::Tensor solarize(const at::Tensor& x, int threshold) {
  const auto table =
      table_by([&](int v) { return static_cast<Byte>(v < threshold ? v : kMost - v); });
  return looked_up(x, [&](const Byte*, std::int64_t) { return table; });
}

at::Tensor autocontrast(const at::Tensor& x) {
  return looked_up(x, [](const Byte* from, std::int64_t n) {
    const auto [low, high] = std::minmax_element(from, from + n);
    if (*low == *high) return table_by([](int v) { return static_cast<Byte>(v); });
    const double scale = static_cast<double>(kMost) / (*high - *low);
    const double offset = -*low * scale;
    return table_by([&](int v) { return cut(static_cast<float>(std::trunc(v * scale + offset))); });
  });
}

at::Tensor equalize(const at::Tensor& x) {
  return looked_up(x, [](const Byte* from, std::int64_t n) {
    const auto count = counts(from, n);
    const auto last = std::find_if(count.rbegin(), count.rend(), [](auto k) { return k > 0; });
    const std::int64_t step = (n - *last) / kMost;
    if (step == 0) return table_by([](int v) { return static_cast<Byte>(v); });
    std::int64_t sum = step / 2;
    return table_by([&](int v) {
      const auto value = static_cast<Byte>(std::min<std::int64_t>(sum / step, kMost));
      sum += count[static_cast<std::size_t>(v)];
      return value;
    });
  });
}

// In numbers with 16 bits behind the point, as Pillow has it.
at::Tensor affine(const at::Tensor& x, const std::array<double, 6>& m) {
  auto out = torch::zeros_like(x);
  const auto h = x.size(1), w = x.size(2);
  const Byte* from = x.const_data_ptr<Byte>();
  Byte* to = out.mutable_data_ptr<Byte>();
  constexpr int kPoint = 16;
  constexpr double kCenter = 0.5;
  const auto fixed = [](double v) {
    return static_cast<std::int64_t>(std::floor(v * (1 << kPoint) + 0.5));
  };
  const std::int64_t step[] = {fixed(m[0]), fixed(m[1]), fixed(m[3]), fixed(m[4])};
  const auto first = fixed(m[2] + kCenter * (m[0] + m[1])),
             line = fixed(m[5] + kCenter * (m[3] + m[4]));
  for (std::int64_t r = 0; r < h; ++r)
    for (std::int64_t c = 0; c < w; ++c) {
      const auto column = (first + r * step[1] + c * step[0]) >> kPoint;
      const auto row = (line + r * step[3] + c * step[2]) >> kPoint;
      if (column < 0 || column >= w || row < 0 || row >= h) continue;
      for (std::int64_t k = 0; k < x.size(0); ++k)
        to[(k * h + r) * w + c] = from[(k * h + row) * w + column];
    }
  return out;
}

at::Tensor resized_part(const at::Tensor& x, std::int64_t top, std::int64_t left,
                        std::int64_t height, std::int64_t width) {
  const auto part = x.narrow(1, top, height).narrow(2, left, width);
  return at::_upsample_bilinear2d_aa(part.unsqueeze(0), {x.size(1), x.size(2)},
                                     /*align_corners=*/false)[0]
      .contiguous();
}

at::Tensor erased(const at::Tensor& x, std::int64_t top, std::int64_t left, std::int64_t height,
                  std::int64_t width) {
  auto out = x.clone();
  const auto mean = x.to(torch::kDouble).mean({1, 2}, /*keepdim=*/true).round();
  out.narrow(1, top, height).narrow(2, left, width).copy_(mean.to(torch::kUInt8));
  return out;
}

}  // namespace ood::changes
