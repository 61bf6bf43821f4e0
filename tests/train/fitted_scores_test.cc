// Which training samples scores are fitted to where there are more than memory shall hold, and models that are made.
#include "ood/train/fitted_scores.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ood/scores/fit_data.h"
#include "ood/torch.h"
#include "ood/train/description.h"
#include "ood/train/evaluate.h"

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

TEST(FitData, GivesNothingOfOtherTensors) {
  torch::manual_seed(0);
  const auto& mds = get_score("mds");
  const auto mean_score = [&](const FitData& d) {
    const auto state = fit_score(mds, mds.defaults(), d);
    return compute_score(mds, mds.defaults(), {{}, d.features}, state).mean().item<double>();
  };
  FitData used, fresh;
  used.features = torch::randn({100, 4});
  used.labels = torch::arange(100) % 3;
  mean_score(used);
  used.features = used.features * 2 + 100;
  fresh.features = used.features;
  fresh.labels = used.labels;
  EXPECT_EQ(mean_score(used), mean_score(fresh));
  used.features.mul_(3);  // and of one that was written to
  fresh = {};
  fresh.features = used.features;
  fresh.labels = used.labels = torch::arange(100) % 2;
  EXPECT_EQ(mean_score(used), mean_score(fresh));
}

ModelDescription linear(std::int64_t width, const std::vector<std::string>& classes) {
  ModelDescription d;
  d.model = "linear";
  d.objective = "cross_entropy";
  d.parameters = get_objective(d.objective).defaults();
  d.channels = width;
  d.height = d.width = 1;
  d.class_names = classes;
  d.mean.assign(static_cast<std::size_t>(width), 0);
  d.deviation.assign(static_cast<std::size_t>(width), 1);
  d.embeddings = true;
  return d;
}

TEST(ModelDescription, AModelIsMadeWithoutSeedingTheCallersGenerator) {
  torch::manual_seed(1);
  make_model(linear(8, {"a", "b"}));
  const auto first = torch::rand({4});
  make_model(linear(8, {"a", "b"}));
  EXPECT_FALSE(torch::rand({4}).equal(first));
}

// With other labels than theirs the class means would all lie in the middle.
TEST(FittedScores, OfSomeSamplesHaveTheirLabels) {
  constexpr std::int64_t kRows = 400, kWidth = 8, kSome = 100;
  torch::manual_seed(0);
  const auto labels = torch::randint(2, {kRows}, torch::kLong);
  const auto far = 5 * torch::one_hot(labels, kWidth).to(torch::kFloat);
  Task task;
  task.class_names = {"a", "b"};
  task.embeddings = true;
  task.train = {Inputs((far + 0.1 * torch::randn({kRows, kWidth})).view({kRows, kWidth, 1, 1})),
                labels};
  task.mean.assign(kWidth, 0);
  task.deviation.assign(kWidth, 1);
  const Model model = make_model(linear(kWidth, task.class_names));
  const std::int64_t bytes = (kWidth + task.classes()) * 4;
  const auto fitted =
      FittedScores::fit(*model.network, *model.objective, task, 0, 0, {}, kSome * bytes);
  const auto places = torch::zeros({2, kWidth});
  places[0][1] = 5;                   // the middle of a class
  places[1][0] = places[1][1] = 2.5;  // between the two
  const auto output = run_network(*model.network, task.mean, task.deviation,
                                  Inputs(places.view({2, kWidth, 1, 1})));
  const auto scores = fitted.compute("mds", *model.objective, output);
  EXPECT_LT(scores[0].item<double>() + 10, scores[1].item<double>()) << scores;
  TensorFile file;
  fitted.write(file, /*all=*/true);
  EXPECT_EQ(file.find("scores.knn.bank").size(0), kSome);
}

}  // namespace
}  // namespace ood
