#include "ood/data/picture_changes.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "ood/data/augment.h"
#include "ood/data/npy.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

// tests/python/test_augment.py writes them.
TEST(PictureChanges, AreThoseOfPillow) {
  const char* folder = std::getenv("OOD_TEST_PILLOW");
  if (folder == nullptr) GTEST_SKIP() << "test_augment.py has Pillow's pictures";
  const std::map<std::string, std::function<at::Tensor(const at::Tensor&)>> all = {
      {"brightness", [](const auto& x) { return changes::brightness(x, 1.3); }},
      {"contrast", [](const auto& x) { return changes::contrast(x, 0.4); }},
      {"saturation", [](const auto& x) { return changes::saturation(x, 1.7); }},
      {"sharpness", [](const auto& x) { return changes::sharpness(x, 1.8); }},
      {"posterize", [](const auto& x) { return changes::posterize(x, 3); }},
      {"solarize", [](const auto& x) { return changes::solarize(x, 100); }},
      {"autocontrast", [](const auto& x) { return changes::autocontrast(x); }},
      {"equalize", [](const auto& x) { return changes::equalize(x); }},
      {"affine", [](const auto& x) {
         return changes::affine(x, {0.913, 0.187, -1.471, -0.1031, 1.0871, 2.03});
       }}};
  auto changes_and_more = all;
  for (int which = 0; which < kRandAugmentOperations; ++which)
    for (const int sign : {1, -1})
      changes_and_more["randaugment." + std::to_string(which) + "." + std::to_string(sign)] =
          [=](const at::Tensor& x) { return randaugment_operation(x, which, sign); };
  int compared = 0;
  for (const auto& picture : std::filesystem::directory_iterator(folder)) {
    const auto x = read_npy(picture.path() / "picture.npy");
    for (const auto& [name, change] : changes_and_more) {
      const auto expected = read_npy(picture.path() / (name + ".npy"));
      const auto got = change(x);
      ASSERT_EQ(got.sizes(), expected.sizes()) << name;
      EXPECT_TRUE(got.equal(expected))
          << name << " of " << picture.path() << ", largest difference "
          << (got.to(torch::kInt) - expected.to(torch::kInt)).abs().max().item<int>();
      ++compared;
    }
  }
  EXPECT_EQ(compared, 5 * (9 + 2 * kRandAugmentOperations));
}

at::Tensor pictures(std::int64_t n, std::int64_t channels = 3) {
  torch::manual_seed(1);
  return torch::randint(0, 256, {n, channels, 24, 20}, torch::kLong).to(torch::kUInt8);
}

std::vector<std::uint64_t> samples(std::uint64_t n, std::uint64_t from = 0) {
  std::vector<std::uint64_t> all;
  for (std::uint64_t i = 0; i < n; ++i) all.push_back(from + i);
  return all;
}

class Augment : public testing::TestWithParam<const char*> {};

TEST_P(Augment, IsAFunctionOfSeedAndSample) {
  const auto how = parse_augmentation(GetParam());
  for (const std::int64_t channels : {1, 3}) {
    const auto x = pictures(40, channels);
    const auto all = augmented(x, how, 7, samples(40));
    EXPECT_TRUE(all.equal(augmented(x, how, 7, samples(40))));
    EXPECT_TRUE(all.slice(0, 10, 20).equal(augmented(x.slice(0, 10, 20), how, 7, samples(10, 10))));
    EXPECT_FALSE(all.equal(augmented(x, how, 8, samples(40))));
    EXPECT_FALSE(all.equal(x));
    EXPECT_EQ(all.sizes(), x.sizes());
  }
  // One pixel is enough to be a picture.
  augmented(torch::full({9, 3, 1, 1}, 7, torch::kUInt8), how, 7, samples(9));
}

INSTANTIATE_TEST_SUITE_P(All, Augment,
                         testing::Values("flip", "crop", "resized-crop", "randaugment", "colour",
                                         "erase",
                                         "flip,crop,resized-crop,randaugment,colour,erase"));

TEST(Augment, NamesWhatItKnows) {
  EXPECT_EQ(augmentation_names(), "flip,crop,resized-crop,randaugment,colour,erase");
  EXPECT_FALSE(parse_augmentation("").any());
  EXPECT_THROW(parse_augmentation("flip,spin"), UsageError);
}

TEST(Augment, ErasesHalfOfThemByAsMuchAsItSays) {
  constexpr int kMany = 2000;
  const auto x =
      torch::cat({torch::zeros({kMany, 1, 40, 20}), torch::full({kMany, 1, 40, 20}, 200)}, 3)
          .to(torch::kUInt8);
  const auto changed = augmented(x, parse_augmentation("erase"), 3, samples(kMany)).ne(x);
  const auto shares = changed.to(torch::kDouble).mean({1, 2, 3});
  const auto erased = shares.gt(0);
  EXPECT_NEAR(erased.to(torch::kDouble).mean().item<double>(), 0.5, 0.04);
  const auto own = shares.masked_select(erased);
  EXPECT_GT(own.min().item<double>(), 0.01);
  EXPECT_LT(own.max().item<double>(), 0.35);
  EXPECT_NEAR(own.mean().item<double>(), 0.16, 0.03);
  EXPECT_TRUE(augmented(x, parse_augmentation("erase"), 3, samples(kMany))
                  .masked_select(changed)
                  .eq(100)
                  .all()
                  .item<bool>());
}

// A ramp shows which part was taken: its slope is the share of the side.
TEST(Augment, TakesPartsOfTheAreaThatItSays) {
  constexpr int kMany = 1000;
  const auto ramp = torch::arange(64).mul(4).to(torch::kUInt8);
  const auto x =
      torch::stack({ramp.view({1, 64}).expand({64, 64}), ramp.view({64, 1}).expand({64, 64})})
          .unsqueeze(0)
          .expand({kMany, 2, 64, 64})
          .contiguous();
  const auto y =
      augmented(x, parse_augmentation("resized-crop"), 5, samples(kMany)).to(torch::kDouble);
  const auto across =
      (y.select(1, 0).select(2, 60) - y.select(1, 0).select(2, 3)).mean(1) / (57 * 4);
  const auto down = (y.select(1, 1).select(1, 60) - y.select(1, 1).select(1, 3)).mean(1) / (57 * 4);
  const auto area = across * down;
  EXPECT_GT(area.min().item<double>(), 0.06);
  EXPECT_LE(area.max().item<double>(), 1.02);
  EXPECT_NEAR(area.mean().item<double>(), 0.5, 0.08);
  const auto ratio = across / down;
  EXPECT_GT(ratio.min().item<double>(), 0.70);
  EXPECT_LT(ratio.max().item<double>(), 1.43);
}

}  // namespace
}  // namespace ood
