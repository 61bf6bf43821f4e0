#include <iostream>

#include "apps/ood/commands.h"
#include "apps/ood/parameter_text.h"
#include "ood/scores/score.h"

namespace ood::app {
namespace {

// What a score looks at, and what it is fitted to, in words.
std::string needs(unsigned bits) {
  std::string text;
  const auto add = [&](unsigned bit, const char* name) {
    if (bits & bit) text += (text.empty() ? "" : ", ") + std::string(name);
  };
  add(ScoreCard::kLogits, "logits");
  add(ScoreCard::kFeatures, "features");
  add(ScoreCard::kLabels, "labels");
  add(ScoreCard::kHead, "the last layer");
  add(ScoreCard::kHeldOut, "held-out ID data");
  return text.empty() ? "nothing" : text;
}

void print_scores() {
  for (const ScoreEntry* s : scores()) {
    std::cout << s->name << "\n  " << s->summary << "\n  " << s->formula << "\n  of "
              << needs(s->uses) << "; fitted to " << needs(s->fit) << "\n  " << s->paper << "\n";
    std::cout << parameter_lines(std::string(s->name), s->parameters) << "\n";
  }
}

// docs/scores.md is this.
void print_scores_markdown() {
  std::cout
      << "# Scores\n\nWritten by `ood scores --markdown`; do not edit. A score is one number a "
         "sample, higher means rather OOD.\nf are the logits of a sample, z its features before "
         "the last layer, f = W z + b. A training fits all of them\nto its ID training data (`ood "
         "fit RUN` again, also with other parameters); in Python each is a class of\n"
         "`ood.scores`, on tensors of any network.\n\n"
         "The score of a run is the joint one, Fisher's sum of the p-values of mds_pp and rmds on "
         "held-out ID data\n(continued by an exponential tail where they are small, so that scores "
         "do not tie), and of the objective's\nown score where it learns from outliers or has one "
         "of its own, else of gen. With fewer than\n118 held-out samples it is the objective's own "
         "score alone. `--score NAME` of `ood train`, or later of `ood fit`,\ntakes another; "
         "picking the best column of a report is choosing by test data, so choose on OOD data "
         "that\nare not those you report. The joint score looks at directions of features: what "
         "only changes their length,\nsuch as contrast, it hardly sees. What is promised: of ID "
         "inputs\ndrawn as the held-out data were, `ood threshold` rejects at most the asked "
         "share, with the stated confidence\nover the draw of these data. It is void where ID "
         "inputs drift, and it says nothing about OOD inputs.\n\n| score | of | fitted to "
         "|\n|---|---|---|\n";
  for (const ScoreEntry* s : scores())
    std::cout << "| [" << s->name << "](#" << s->name << ") | " << needs(s->uses) << " | "
              << needs(s->fit) << " |\n";
  for (const ScoreEntry* s : scores()) {
    std::cout << "\n## " << s->name << "\n\n"
              << s->summary << "\n\n    " << s->formula << "\n\n- Class: `ood.scores."
              << s->class_name << "`\n- Paper: " << s->paper << "\n";
    if (!s->pitfalls.empty()) std::cout << "- Pitfall: " << s->pitfalls << "\n";
    std::cout << parameter_markdown(s->parameters);
  }
}

}  // namespace

void add_scores(CLI::App& app) {
  add_list(app, "scores", "list the scores and their parameters", scores_json,
           print_scores_markdown, print_scores);
}

}  // namespace ood::app
