#include "ood/data/synthetic_outliers.h"

#include <algorithm>
#include <sstream>

#include "ood/augment/mixing.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

constexpr std::int64_t kPatches = 4, kCoarse = 8;

// [C, H, W] each.
at::Tensor noise(const at::Tensor& x, RandomStream& random) {
  auto out = x.to(torch::kFloat).contiguous();
  const float low = out.min().item<float>(), high = out.max().item<float>();
  auto* v = out.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < out.numel(); ++i)
    v[i] = low + (high - low) * static_cast<float>(random.uniform());
  return out.to(x.scalar_type());
}

at::Tensor blur(const at::Tensor& x, RandomStream&) {
  const auto f = x.to(torch::kFloat).unsqueeze(0);
  const auto coarse = at::adaptive_avg_pool2d(
      f, {std::min(kCoarse, x.size(1)) / 2 + 1, std::min(kCoarse, x.size(2)) / 2 + 1});
  return at::upsample_bilinear2d(coarse, {x.size(1), x.size(2)}, false)[0].round().to(
      x.scalar_type());
}

at::Tensor patch_shuffle(const at::Tensor& x, RandomStream& random) {
  const std::int64_t h = x.size(1) / kPatches, w = x.size(2) / kPatches;
  auto out = x.clone();
  if (h == 0 || w == 0) return noise(x, random);
  const auto order = random.permutation(kPatches * kPatches);
  const auto patch = [&](const at::Tensor& t, std::int64_t i) {
    return t.narrow(1, i / kPatches * h, h).narrow(2, i % kPatches * w, w);
  };
  for (std::int64_t i = 0; i < kPatches * kPatches; ++i)
    patch(out, i).copy_(patch(x, order[i].item<std::int64_t>()));
  return out;
}

// Left half of one, right half of the other; embeddings have their numbers in dimension 0.
at::Tensor halves(const at::Tensor& x, const at::Tensor& other) {
  const std::int64_t dim = x.size(2) > 1 ? 2 : 0;
  const std::int64_t half = x.size(dim) / 2;
  return torch::cat({x.narrow(dim, 0, half), other.narrow(dim, half, x.size(dim) - half)}, dim);
}

}  // namespace

Samples make_synthetic_outliers(const Samples& train, const std::string& kinds,
                                std::uint64_t seed) {
  std::vector<std::string> wanted;
  std::stringstream stream(kinds);
  const bool embeddings = train.inputs.is_floating_point();
  for (std::string kind; std::getline(stream, kind, ',');) {
    const bool of_pictures = kind == "blur" || kind == "patch-shuffle";
    if (kind != "noise" && kind != "cutmix" && !(of_pictures && !embeddings))
      throw UsageError("`synthetic-outliers`: expected a list of " +
                       std::string(embeddings ? "noise, cutmix (for embeddings)"
                                              : "noise, blur, patch-shuffle, cutmix") +
                       ", got \"" + kind + "\"");
    wanted.push_back(kind);
  }
  const std::int64_t n = train.size();
  const auto* labels = train.labels.const_data_ptr<std::int64_t>();
  Samples out{torch::empty_like(train.inputs), torch::full({n}, -1, torch::kLong)};
  for (std::int64_t i = 0; i < n; ++i) {
    RandomStream random(seed, (static_cast<std::uint64_t>(Purpose::kSynthetic) << 48) +
                                  static_cast<std::uint64_t>(i));
    const std::string& kind = wanted[static_cast<std::size_t>(i) % wanted.size()];
    const auto x = train.inputs[i];
    if (kind == "cutmix") {
      std::int64_t other = random.below(n);
      for (int tries = 0; tries < 100 && labels[other] == labels[i]; ++tries)
        other = random.below(n);
      out.inputs[i].copy_(halves(x, train.inputs[other]));
    } else {
      out.inputs[i].copy_(kind == "noise"  ? noise(x, random)
                          : kind == "blur" ? blur(x, random)
                                           : patch_shuffle(x, random));
    }
  }
  return out;
}

}  // namespace ood
