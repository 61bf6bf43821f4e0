#include "ood/scores/score.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <nlohmann/json.hpp>

#include "ood/registry/entries.h"
#include "ood/registry/parameters_json.h"
#include "ood/scores/fit_data.h"

namespace ood {
namespace {

Entries<ScoreEntry>& list() {
  static Entries<ScoreEntry> entries;
  return entries;
}

using Need = ScoreCard::Need;
constexpr std::pair<unsigned, std::string_view> kNeeds[] = {{Need::kLogits, "logits"},
                                                            {Need::kFeatures, "features"},
                                                            {Need::kLabels, "labels"},
                                                            {Need::kHead, "weight"},
                                                            {Need::kHeldOut, "held_out"}};

std::vector<std::string_view> names_of(unsigned needs) {
  std::vector<std::string_view> names;
  for (const auto& [bit, name] : kNeeds)
    if (needs & bit) names.push_back(name);
  return names;
}

void check_matrix(std::string_view score, std::string_view what, const at::Tensor& t) {
  TORCH_CHECK_VALUE(t.defined() && t.dim() == 2 && t.size(1) > 0 && t.is_floating_point(), score,
                    ": expected ", what, " of two dimensions and a floating type, got ",
                    t.defined() ? c10::str(t.sizes(), " of ", t.scalar_type()) : "none");
}

void check_rows(std::string_view score, std::string_view what, const at::Tensor& t) {
  check_matrix(score, what, t);
  TORCH_CHECK_VALUE(t.size(0) > 0, score, ": expected training rows, got none");
  // A sum is finite where all numbers are, but for overflow.
  if (const double sum = t.sum().item<double>(); !std::isfinite(sum)) {
    const auto bad = t.isfinite().logical_not().any(1).nonzero();
    TORCH_CHECK_VALUE(bad.numel() == 0, score, ": expected finite ", what,
                      ", got NaN or infinity in row ",
                      bad.numel() > 0 ? bad[0][0].item<std::int64_t>() : 0);
  }
}

void check_labels(std::string_view score, const at::Tensor& labels, std::int64_t rows,
                  std::int64_t classes) {
  TORCH_CHECK_VALUE(
      labels.defined() && labels.dim() == 1 && labels.size(0) == rows &&
          labels.scalar_type() == at::kLong,
      score, ": expected a label of int64 for each of ", rows, " rows, got ",
      labels.defined() ? c10::str(labels.sizes(), " of ", labels.scalar_type()) : "none");
  const auto low = labels.min().item<std::int64_t>(), high = labels.max().item<std::int64_t>();
  TORCH_CHECK_VALUE(low >= 0 && high < classes, score, ": expected labels from 0 to ", classes - 1,
                    ", got ", low < 0 ? low : high);
}

void check_fit(const ScoreEntry& s, const FitData& d) {
  const unsigned needs = s.fit;
  if (needs & (Need::kFeatures | Need::kHead)) check_rows(s.name, "features", d.features);
  if (needs & Need::kLogits) check_rows(s.name, "logits", d.logits);
  if (needs & Need::kHead) {
    check_matrix(s.name, "weights of the last layer", d.weight);
    TORCH_CHECK_VALUE(d.weight.size(1) == d.dimension(), s.name, ": expected weights [K, ",
                      d.dimension(), "], got ", d.weight.sizes());
    TORCH_CHECK_VALUE(
        !d.bias.defined() || (d.bias.dim() == 1 && d.bias.size(0) == d.weight.size(0)), s.name,
        ": expected a bias [", d.weight.size(0), "], got ",
        d.bias.defined() ? d.bias.sizes() : at::IntArrayRef());
    for (const auto& t : {d.weight, d.bias})
      TORCH_CHECK_VALUE(!t.defined() || t.isfinite().all().item<bool>(), s.name,
                        ": expected finite weights of the last layer, got NaN or infinity");
  }
  if (needs & Need::kLabels) {
    const auto rows = (needs & Need::kFeatures ? d.features : d.logits).size(0);
    check_labels(s.name, d.labels, rows, d.labels.defined() ? d.classes() : 0);
  }
  if (needs & Need::kHeldOut) {
    check_rows(s.name, "held-out logits", d.held_out_logits);
    check_labels(s.name, d.held_out_labels, d.held_out_logits.size(0), d.held_out_logits.size(1));
  }
}

}  // namespace

std::vector<double> ScoreEntry::defaults() const { return values_of(parameters, {}); }

std::vector<const ScoreEntry*> scores() { return list().all(); }

const ScoreEntry* find_score(std::string_view name) { return list().find(name); }

const ScoreEntry& get_score(std::string_view name) {
  if (const ScoreEntry* s = find_score(name)) return *s;
  std::vector<std::string_view> known;
  for (const ScoreEntry* s : scores()) known.push_back(s->name);
  C10_THROW_ERROR(ValueError,
                  c10::str("expected a score of ", c10::Join(", ", known), ", got \"", name, "\""));
}

bool register_score(ScoreEntry entry) {
  list().add("score", std::move(entry));
  return true;
}

std::vector<at::Tensor> fit_score(const ScoreEntry& score, Numbers parameters,
                                  const FitData& data) {
  check_parameters(score.name, score.parameters, parameters);
  if (score.fit_to == nullptr) return {};
  const at::NoGradGuard no_grad;
  check_fit(score, data);
  return score.fit_to(parameters, data);
}

at::Tensor compute_score(const ScoreEntry& score, Numbers parameters, const NetworkOutput& output,
                         Tensors state) {
  check_parameters(score.name, score.parameters, parameters);
  TORCH_CHECK_VALUE(state.size() == score.state.size(), score.name, ": expected ",
                    score.state.empty() ? "no state" : "to be fitted first", ", got ", state.size(),
                    " of ", score.state.size(), " tensors");
  if (score.uses & Need::kLogits) check_matrix(score.name, "logits", output.logits);
  if (score.uses & Need::kFeatures) {
    check_matrix(score.name, "features", output.features);
    const bool wide = !state.empty() && state[0].dim() == 2;
    const auto width = wide ? state[0].size(1) : output.features.size(1);
    TORCH_CHECK_VALUE(output.features.size(1) == width, score.name, ": expected features [N, ",
                      width, "], as it was fitted to, got ", output.features.sizes());
  }
  const at::NoGradGuard no_grad;
  // In float32 the softmax of a sure network is exactly 1 for many inputs, which then tie.
  return score.compute(
      parameters,
      {output.logits.defined() ? output.logits.to(at::kDouble) : at::Tensor(), output.features},
      state);
}

at::Tensor own_score(const Readout& readout, std::string_view score, const at::Tensor& features) {
  if (readout.score.defined()) return readout.score;
  if (!readout.logits.defined()) return {};
  const ScoreEntry& entry = get_score(score);
  return compute_score(entry, entry.defaults(), {readout.logits, features}, {});
}

std::string scores_json() {
  auto all = nlohmann::ordered_json::array();
  for (const ScoreEntry* s : scores())
    all.push_back({{"name", s->name},
                   {"class", s->class_name},
                   {"summary", s->summary},
                   {"formula", s->formula},
                   {"paper", s->paper},
                   {"pitfalls", s->pitfalls},
                   {"uses", names_of(s->uses)},
                   {"fit", names_of(s->fit)},
                   {"state", s->state},
                   {"parameters", parameters_json(s->parameters)}});
  return all.dump(2);
}

}  // namespace ood
