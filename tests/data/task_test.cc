// The division into known, outlier and unknown classes, and of training data into parts.
#include "ood/data/task.h"

#include <gtest/gtest.h>

#include <set>

#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/train/batches.h"
#include "tests/data/files.h"

namespace ood {
namespace {

class TaskTest : public testing::Test {
 protected:
  TaskTest() {
    test::write_dataset(folder.path, 400, 200, 5);
    options.data = folder.path.string();
    options.known = "0,3";
    options.outliers = "1";
    options.unknown = "2,4";
  }
  test::TemporaryFolder folder;
  TaskOptions options;
};

TEST_F(TaskTest, PartsAreDisjointAndRelabelled) {
  const Task t = make_task(options);
  EXPECT_EQ(t.class_names, (std::vector<std::string>{"0", "3"}));
  EXPECT_EQ(t.train.size() + t.validation.size(), 160);
  EXPECT_EQ(t.validation.size(), 16);
  EXPECT_EQ(t.train_outliers.size() + t.validation_outliers.size(), 80);
  EXPECT_EQ(t.train_outliers.labels.max().item<int>(), -1);
  EXPECT_EQ(t.train.labels.max().item<int>(), 1);
  EXPECT_EQ(t.test.size(), 80);
  ASSERT_EQ(t.ood.size(), 1u);
  EXPECT_EQ(t.ood[0].first, "unknown");
  EXPECT_EQ(t.ood[0].second.size(), 80);
  EXPECT_EQ(t.ood[0].second.labels.max().item<int>(), -1);
}

TEST_F(TaskTest, SeedDecidesTheDivisionAndLimitsKeepTo) {
  options.limit_train = 30;
  options.limit_test = 7;
  const Task a = make_task(options), b = make_task(options);
  EXPECT_EQ(a.train.size(), 30);
  EXPECT_EQ(a.test.size(), 7);
  EXPECT_EQ(a.ood[0].second.size(), 7);
  EXPECT_TRUE(a.train.inputs.equal(b.train.inputs));
  options.seed = 1;
  EXPECT_FALSE(make_task(options).train.inputs.equal(a.train.inputs));
}

TEST_F(TaskTest, NormalisationComesFromTheTrainingData) {
  const Task t = make_task(options);
  const auto x = normalised(t, t.train.inputs);
  EXPECT_NEAR(x.mean().item<double>(), 0, 1e-4);
  EXPECT_NEAR(x.std(false).item<double>(), 1, 1e-4);
}

TEST_F(TaskTest, WrongListsAreUsageErrors) {
  const auto refused = [&](const std::string& part) {
    try {
      make_task(options);
      ADD_FAILURE() << "accepted; expected: " << part;
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  options.unknown = "2,3";
  refused("class 3 is in `known` and in `unknown`");
  options.unknown = "7";
  refused("expected classes 0 to 4");
  options.unknown = "";
  refused("no OOD samples to test on");
  options.known = "0";
  options.unknown = "2";
  refused("at least two classes");
}

TEST_F(TaskTest, AFurtherTestSetMustFit) {
  options.ood_data = {{"other", (folder.path / "small").string()}};
  test::write_bytes(folder.path / "small", test::idx_bytes({6, 4, 4}, 3));
  try {
    make_task(options);
    FAIL();
  } catch (const DataError& e) {
    EXPECT_NE(std::string(e.what()).find("1x8x8"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("1x4x4"), std::string::npos) << e.what();
  }
}

TEST_F(TaskTest, EveryEpochSeesEverySampleOnceInANewOrder) {
  const Task t = make_task(options);
  Batches batches(t, 16, 5, 3), again(t, 16, 5, 3);
  ASSERT_EQ(batches.steps_per_epoch(), 9);
  std::vector<std::set<std::string>> seen(2);
  at::Tensor first[2];
  for (int epoch = 0; epoch < 2; ++epoch)
    for (int s = 0; s < 9; ++s) {
      const auto b = batches.at_step(epoch * 9 + s);
      EXPECT_EQ(b.inputs.size(0), 21);
      EXPECT_EQ(b.target.slice(0, 16).max().item<int>(), -1);
      EXPECT_GE(b.target.slice(0, 0, 16).min().item<int>(), 0);
      if (s == 0) first[epoch] = b.inputs;
    }
  EXPECT_FALSE(first[0].equal(first[1]));
  // A later step does not depend on the steps before it.
  EXPECT_TRUE(again.at_step(13).inputs.equal(batches.at_step(13).inputs));
}

TEST(Permutation, IsOneAndChangesWithItsArguments) {
  const auto p = permutation(1000, 1, Purpose::kShuffle, 0);
  EXPECT_EQ(std::set<std::int64_t>(p.begin(), p.end()).size(), 1000u);
  EXPECT_EQ(p, permutation(1000, 1, Purpose::kShuffle, 0));
  EXPECT_NE(p, permutation(1000, 2, Purpose::kShuffle, 0));
  EXPECT_NE(p, permutation(1000, 1, Purpose::kOutliers, 0));
  EXPECT_NE(p, permutation(1000, 1, Purpose::kShuffle, 1));
}

TEST(ParseClasses, ListsAndRanges) {
  EXPECT_EQ(parse_classes("`known`", "0,2,4-6"), (std::vector<std::int64_t>{0, 2, 4, 5, 6}));
  EXPECT_TRUE(parse_classes("`known`", "").empty());
  for (const char* bad : {"a", "1,,2", "1;2", "-3", "1-", "99999999999"})
    EXPECT_THROW(parse_classes("`known`", bad), UsageError) << bad;
}

}  // namespace
}  // namespace ood
