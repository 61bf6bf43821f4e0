// Which training samples scores are fitted to where there are more than memory shall hold.
#include "ood/train/fitted_scores.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ood/torch.h"

namespace ood {
namespace {

TEST(SamplesToFit, AreAllOfAFew) {
  EXPECT_TRUE(samples_to_fit(torch::zeros({100}, torch::kLong), 100, 0).empty());
}

TEST(SamplesToFit, AreSomeOfManyWithOneOfEachClass) {
  auto labels = torch::zeros({10000}, torch::kLong);
  for (std::int64_t c = 1; c < 5; ++c) labels[2000 * c] = c;  // alone in its class
  const auto chosen = samples_to_fit(labels, 1000, 3);
  EXPECT_GE(chosen.size(), 1000u);
  EXPECT_LE(chosen.size(), 1004u);
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  EXPECT_EQ(std::adjacent_find(chosen.begin(), chosen.end()), chosen.end());
  for (std::int64_t c = 1; c < 5; ++c)
    EXPECT_TRUE(std::binary_search(chosen.begin(), chosen.end(), 2000 * c)) << c;
  // From everywhere, and others with another seed.
  const auto half = std::count_if(chosen.begin(), chosen.end(), [](auto i) { return i < 5000; });
  EXPECT_GT(half, 400);
  EXPECT_LT(half, 600);
  EXPECT_EQ(chosen, samples_to_fit(labels, 1000, 3));
  EXPECT_NE(chosen, samples_to_fit(labels, 1000, 4));
}

}  // namespace
}  // namespace ood
