// The division into known, outlier and unknown classes, and of training data into parts.
#include "ood/data/task.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>

#include "ood/data/class_list.h"
#include "ood/data/random.h"
#include "ood/data/synthetic_outliers.h"
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
  EXPECT_TRUE(a.train.inputs.all().equal(b.train.inputs.all()));
  options.seed = 1;
  EXPECT_FALSE(make_task(options).train.inputs.all().equal(a.train.inputs.all()));
}

TEST_F(TaskTest, NormalisationComesFromTheTrainingData) {
  const Task t = make_task(options);
  const auto x = normalised(t, t.train.inputs.all());
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
  refused("expected classes 0 to 4, got 7");
  options.unknown = "2";
  options.known = "0,0";
  refused("`known`: class 0 is given twice");
  options.known = "";
  options.outliers = "0,1";
  options.unknown = "2-4";
  refused("all are in other lists");
}

TEST_F(TaskTest, OneClassAndNoTestOfOodAreATask) {
  options.known = "0";
  options.outliers = options.unknown = "";
  const Task t = make_task(options);
  EXPECT_EQ(t.classes(), 1);
  EXPECT_TRUE(t.ood.empty());
}

TEST_F(TaskTest, ClassesStandAboveAPathOfTheirName) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path);
  std::filesystem::create_directory("1");
  EXPECT_EQ(make_task(options).outlier_names, (std::vector<std::string>{"1"}));
  EXPECT_TRUE(make_task(options).outliers_are_classes);
  std::filesystem::current_path(before);
}

TEST_F(TaskTest, TheFingerprintIsThatOfTheContent) {
  const std::string first = make_task(options).fingerprint;
  EXPECT_EQ(make_task(options).fingerprint, first);
  const std::string tested = make_task(options).test_fingerprint;
  options.unknown = "2";  // the training sees the same
  EXPECT_EQ(make_task(options).fingerprint, first);
  EXPECT_NE(make_task(options).test_fingerprint, tested);
  options.outliers = "";
  EXPECT_NE(make_task(options).fingerprint, first);
}

TEST_F(TaskTest, AFurtherTestSetIsBroughtToTheSizeOfTheTraining) {
  options.ood_data = {{"other", (folder.path / "small").string()}};
  test::write_bytes(folder.path / "small", test::idx_bytes({6, 4, 4}, 3));
  EXPECT_EQ(make_task(options).ood.back().second.inputs.all().sizes(),
            c10::IntArrayRef({6, 1, 8, 8}));
}

TEST_F(TaskTest, EveryEpochSeesEverySampleOnceInANewOrder) {
  const Task t = make_task(options);
  Batches batches(t, 16, 5, 3), again(t, 16, 5, 3);
  ASSERT_EQ(batches.steps_per_epoch(), 9);
  std::vector<std::set<std::string>> seen(2);
  std::vector<std::int64_t> rows(21);
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  at::Tensor first[2];
  for (int epoch = 0; epoch < 2; ++epoch)
    for (int s = 0; s < 9; ++s) {
      const auto b = batches.at_step(epoch * 9 + s, rows);
      EXPECT_EQ(b.inputs.size(0), 21);
      EXPECT_EQ(b.target.slice(0, 16).max().item<int>(), -1);
      EXPECT_GE(b.target.slice(0, 0, 16).min().item<int>(), 0);
      if (s == 0) first[epoch] = b.inputs;
    }
  EXPECT_FALSE(first[0].equal(first[1]));
  // A later step does not depend on the steps before it.
  const auto whole = batches.at_step(13, rows);
  EXPECT_TRUE(again.at_step(13, rows).inputs.equal(whole.inputs));
  // Nor do rows depend on who makes the others; targets are everybody's.
  const auto some = again.at_step(13, {3, 15, 16, 20});
  EXPECT_TRUE(some.inputs.equal(whole.inputs.index_select(0, torch::tensor({3, 15, 16, 20}))));
  EXPECT_TRUE(some.target.equal(whole.target));
}

TEST(BalancedBatches, HaveEachClassEquallyOften) {
  // 64 samples of class 0, 8 of class 1: an epoch of 72 has 36 of each.
  Task t;
  t.class_names = {"many", "few"};
  t.train = {torch::arange(72).to(torch::kByte).view({72, 1, 1, 1}),
             torch::arange(72).ge(64).to(torch::kLong)};
  t.mean = {0};
  t.deviation = {1};
  Batches batches(t, 12, 0, 3, {}, 0, /*balanced=*/true);
  ASSERT_EQ(batches.steps_per_epoch(), 6);
  std::vector<std::int64_t> rows(12);
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  std::array<std::map<float, int>, 2> drawn;
  for (int s = 0; s < 6; ++s) {
    const auto b = batches.at_step(s, rows);
    for (std::int64_t i = 0; i < 12; ++i)
      ++drawn[static_cast<std::size_t>(b.target[i].item<std::int64_t>())]
             [b.inputs[i].item<float>()];
  }
  const auto counts = [&](std::size_t c) {
    std::multiset<int> n;
    for (const auto& [unused, count] : drawn[c]) n.insert(count);
    return n;
  };
  EXPECT_EQ(counts(0).size(), 36u);  // of the 64, each once
  EXPECT_EQ(*counts(0).rbegin(), 1);
  EXPECT_EQ(counts(1), (std::multiset<int>{4, 4, 4, 4, 5, 5, 5, 5}));
}

TEST(BalancedBatches, LeaveOutAClassThatHasNoSampleLeft) {
  Task t;
  t.class_names = {"many", "none", "few"};
  t.train = {torch::arange(12).to(torch::kByte).view({12, 1, 1, 1}),
             torch::arange(12).ge(8).to(torch::kLong) * 2};
  t.mean = {0};
  t.deviation = {1};
  Batches batches(t, 12, 0, 3, {}, 0, /*balanced=*/true);
  std::vector<std::int64_t> rows(12);
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  EXPECT_EQ(batches.at_step(0, rows).target.eq(2).sum().item<int>(), 6);
}

TEST(SyntheticOutliers, LeaveTheTrainingDataAsTheyAre) {
  for (const auto type : {torch::kFloat, torch::kByte}) {
    const auto x = torch::randint(0, 255, {10, 4, 1, 1}).to(type);
    const Samples train{x.clone(), torch::zeros({10}, torch::kLong)};
    const auto made = make_synthetic_outliers(train, "noise", 1);
    EXPECT_TRUE(train.inputs.all().equal(x));
    EXPECT_FALSE(made.all().equal(x));
  }
}

TEST(Permutation, IsOneAndChangesWithItsArguments) {
  const auto p = permutation(1000, 1, Purpose::kShuffle, 0);
  EXPECT_EQ(std::set<std::int64_t>(p.begin(), p.end()).size(), 1000u);
  EXPECT_EQ(p, permutation(1000, 1, Purpose::kShuffle, 0));
  EXPECT_NE(p, permutation(1000, 2, Purpose::kShuffle, 0));
  EXPECT_NE(p, permutation(1000, 1, Purpose::kOutliers, 0));
  EXPECT_NE(p, permutation(1000, 1, Purpose::kShuffle, 1));
}

using Classes = std::vector<std::int64_t>;

TEST(ParseClasses, ListsAndRanges) {
  const std::vector<std::string> names = {"c", "d", "e", "f", "g", "h", "i"};
  EXPECT_EQ(parse_classes("`known`", "0,2,4-6", names), (Classes{0, 2, 4, 5, 6}));
  EXPECT_TRUE(parse_classes("`known`", "", names).empty());
  for (const char* bad : {"a", "1,,2", "1;2", "-3", "1-", "7", "99999999999", "5-3", ","})
    EXPECT_THROW(parse_classes("`known`", bad, names), UsageError) << bad;
}

TEST(ParseClasses, NumbersAreNamesWhereAllNamesAreNumbers) {
  const std::vector<std::string> names = {"1", "10", "2", "20"};
  EXPECT_EQ(parse_classes("`known`", "1-2", names), (Classes{0, 2}));
  EXPECT_EQ(parse_classes("`known`", "2-20", names), (Classes{2, 1, 3}));
  EXPECT_EQ(parse_classes("`known`", "10", names), (Classes{1}));
  EXPECT_THROW(parse_classes("`known`", "3", names), UsageError);
  for (const char* beyond : {"3-9", "0-2", "2-30"})
    EXPECT_THROW(parse_classes("`known`", beyond, names), UsageError) << beyond;
  // As soon as one name is a number, a position would be mistaken for it.
  EXPECT_EQ(parse_classes("`known`", "1-2", {"1", "10", "2", "other"}), (Classes{0, 2}));
}

TEST(ParseClasses, ANameStandsAboveAPositionAndMayHaveAComma) {
  const std::vector<std::string> names = {"boot", "red, dark", "coat"};
  EXPECT_EQ(parse_classes("`known`", "2,boot", names), (Classes{2, 0}));
  EXPECT_EQ(parse_classes("`known`", "red\\, dark,1", names), (Classes{1, 1}));
  EXPECT_THROW(parse_classes("`known`", "3", names), UsageError);
  EXPECT_NE(class_list("bot", names).error.find("did you mean boot?"), std::string::npos);
}

}  // namespace
}  // namespace ood
