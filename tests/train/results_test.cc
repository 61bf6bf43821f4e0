// What results.json holds: written and read again, with what JSON has no number for; damage is named.
#include "ood/train/results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "tests/data/files.h"

namespace ood {
namespace {

std::string text_of(const test::TemporaryFolder& folder) {
  return read_text(folder.path / "results.json", 1 << 20);
}

Results example() {
  ObjectiveResults o;
  o.objective = "cross_entropy";
  o.score = o.own_score = "msp";
  o.members = {"mds_pp", "own"};
  o.best_step = 7;
  o.validation_accuracy = 0.9;
  o.false_alarms = o.false_alarms_confidence = 0.05;
  o.threshold_samples = 60;
  o.threshold = 1.5;
  o.test_rejected = 0.04;
  o.class_accuracy = {0.5, std::nullopt};
  o.calibration = {{0.1, 0.2, 0.3}};
  o.ood["near:a"].detection.auroc = 0.75;
  o.ood["near:a"].rejected = 0.5;
  o.ood["near:a"].behind_best = {{"cac", -0.1, 0.2}};
  o.groups["msp"]["near"].auroc = 0.75;
  o.over_seeds["near:a"] = {0.7, 0.1, {0.6, 0.8}};
  o.ood["near:a"].open_set = {{0.6, 0.1, 0.05, {0.1, 0.2, 0.3}}};
  o.scores["msp"]["near:a"].fpr95 = 0.25;
  o.curves["near:a"] = {{{0.0, 0.5}, {1.0, 1.0}}, {-1, 1, {0.5}, {0.25}}};
  o.training["loss"] = {{1, 2.5}, {2, 1.5}};
  Results r;
  r.known = {"a \"quoted\" name", "b"};
  r.classes = {{"b", 3, 4}};
  r.objectives = {o, {}};
  return r;
}

TEST(Results, RoundTrip) {
  const test::TemporaryFolder folder;
  write_results(folder.path / "results.json", example());
  const auto first = text_of(folder);
  const Results back = read_results(folder.path);
  EXPECT_EQ(back.known, example().known);
  ASSERT_EQ(back.objectives.size(), 2u);
  const auto& o = back.objectives[0];
  EXPECT_EQ(o.class_accuracy, example().objectives[0].class_accuracy);
  EXPECT_EQ(o.ood.at("near:a").open_set->ccr_at_fpr[2], 0.3);
  EXPECT_EQ(o.training.at("loss"), example().objectives[0].training.at("loss"));
  EXPECT_FALSE(o.accuracy || o.steps);
  for (const std::string field :
       {"members", "best_step", "validation_accuracy", "false_alarms", "false_alarms_confidence",
        "threshold_samples", "threshold", "test_rejected", "class_accuracy", "calibration",
        "rejected", "behind_best", "groups", "over_seeds", "oscr"})
    EXPECT_NE(first.find("\"" + field + "\""), std::string::npos) << field;
  EXPECT_EQ(o.auroc("near:a"), 0.7);
  EXPECT_EQ(o.group_auroc("near"), 0.7);
  EXPECT_FALSE(back.objectives[1].threshold || back.objectives[1].validation_accuracy);
  EXPECT_FALSE(back.objectives[1].calibration);
  write_results(folder.path / "results.json", back);
  EXPECT_EQ(text_of(folder), first);
}

TEST(Results, WhatIsNoNumberInJsonIsNoneAfterwards) {
  const test::TemporaryFolder folder;
  Results r = example();
  r.objectives[0].calibration->nll = std::numeric_limits<double>::infinity();
  write_results(folder.path / "results.json", r);
  EXPECT_TRUE(std::isnan(read_results(folder.path).objectives[0].calibration->nll));
}

TEST(Results, DamageIsNamed) {
  const test::TemporaryFolder folder;
  write_results(folder.path / "results.json", example());
  const auto whole = text_of(folder);
  auto other = whole;
  other.replace(other.find("\"known\": ["), 10, "\"known\": 5 ,\"x\": [");
  for (const auto& text : {std::string(), whole.substr(0, whole.size() / 2), std::string("[]"),
                           std::string("{\"objectives\": []}"), other}) {
    write_file(folder.path / "results.json", text);
    EXPECT_THROW(read_results(folder.path), DataError) << text;
  }
}

}  // namespace
}  // namespace ood
