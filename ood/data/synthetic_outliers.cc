#include "ood/data/synthetic_outliers.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <sstream>

#include "ood/augment/mixing.h"
#include "ood/data/hash.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

constexpr std::int64_t kPatches = 4, kCoarse = 8;

// [C, H, W] each.
at::Tensor noise(const at::Tensor& x, RandomStream& random) {
  const float low = x.min().item<float>(), high = x.max().item<float>();
  auto out = torch::empty(x.sizes(), torch::kFloat);  // x may be the training data itself
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

// Made from sample i of the training data when it is read; a function of these, the seed and i.
class Synthetic : public InputSource {
 public:
  Synthetic(Samples train, std::vector<std::string> kinds, std::uint64_t seed)
      : train_(std::move(train)), kinds_(std::move(kinds)), seed_(seed) {}

  std::int64_t size() const override { return train_.size(); }
  std::array<std::int64_t, 3> shape() const override { return train_.inputs.shape(); }
  at::ScalarType type() const override {
    return train_.inputs.embeddings() ? at::kFloat : at::kByte;
  }

  at::Tensor read(const std::vector<std::int64_t>& positions) const override {
    std::vector<at::Tensor> made(positions.size());
    at::parallel_for(0, static_cast<std::int64_t>(made.size()), 8, [&](auto begin, auto end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        made[i] = one(positions[i]);
    });
    return torch::stack(made);
  }

 protected:
  // They follow from the training data's.
  std::vector<std::uint64_t> find_hashes() const override {
    auto hashes = train_.inputs.hashes();
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      const std::string& kind = kinds_[i % kinds_.size()];
      const std::array<std::uint64_t, 4> of = {hashes[i], fnv1a(kind.data(), kind.size()), seed_,
                                               i};
      hashes[i] = fnv1a(of.data(), sizeof of);
    }
    return hashes;
  }

 private:
  at::Tensor one(std::int64_t i) const {
    RandomStream random(seed_, (static_cast<std::uint64_t>(Purpose::kSynthetic) << 48) +
                                   static_cast<std::uint64_t>(i));
    const std::string& kind = kinds_[static_cast<std::size_t>(i) % kinds_.size()];
    const auto x = train_.inputs.at({i})[0];
    if (kind == "noise") return noise(x, random);
    if (kind == "blur") return blur(x, random);
    if (kind == "patch-shuffle") return patch_shuffle(x, random);
    const auto* labels = train_.labels.const_data_ptr<std::int64_t>();
    std::int64_t other = random.below(size());
    for (int tries = 0; tries < 100 && labels[other] == labels[i]; ++tries)
      other = random.below(size());
    return halves(x, train_.inputs.at({other})[0]);
  }

  Samples train_;
  std::vector<std::string> kinds_;
  std::uint64_t seed_;
};

struct Kind {
  const char* name;
  bool of_embeddings;  // as well as of pictures
};
constexpr Kind kKinds[] = {
    {"noise", true}, {"blur", false}, {"patch-shuffle", false}, {"cutmix", true}};

}  // namespace

std::string synthetic_outlier_kinds(bool embeddings) {
  std::string names;
  for (const Kind& k : kKinds)
    if (k.of_embeddings || !embeddings) names += (names.empty() ? "" : ",") + std::string(k.name);
  return names;
}

Inputs make_synthetic_outliers(const Samples& train, const std::string& kinds, std::uint64_t seed) {
  std::vector<std::string> wanted;
  std::stringstream stream(kinds);
  const bool embeddings = train.inputs.embeddings();
  for (std::string kind; std::getline(stream, kind, ',');) {
    const bool known = std::any_of(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) {
      return kind == k.name && (k.of_embeddings || !embeddings);
    });
    if (!known)
      throw UsageError("`synthetic-outliers`: expected a list of " +
                       synthetic_outlier_kinds(embeddings) +
                       (embeddings ? " (for embeddings)" : "") + ", got \"" + kind + "\"");
    wanted.push_back(kind);
  }
  Inputs made(std::make_shared<Synthetic>(train, wanted, seed));
  // Made once, where there is room for the originals.
  if (train.inputs.in_memory()) made = {made.all(), made.hashes()};
  return made;
}

}  // namespace ood
