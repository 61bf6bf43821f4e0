#include "ood/train/evaluate.h"

#include <algorithm>
#include <cmath>

#include "ood/data/numbers.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/metrics/detection.h"
#include "ood/metrics/open_set.h"
#include "ood/scores/logits.h"

namespace ood {
namespace {

constexpr std::int64_t kRows = 500;  // at most, at a time
constexpr int kBins = 40;

// Unweighted means over the sets of a group, "near" of a set "near:letters".
ByName<Detection> group_means(const ByName<Detection>& by_set) {
  constexpr double Detection::*kFigures[] = {&Detection::auroc,     &Detection::aupr_in,
                                             &Detection::aupr_out,  &Detection::fpr95,
                                             &Detection::fpr95_ood, &Detection::error};
  ByName<Detection> means;
  std::map<std::string, double> counts;
  for (const auto& [set, of_set] : by_set) {
    const auto colon = set.find(':');
    if (colon == std::string::npos) continue;
    const std::string group = set.substr(0, colon);
    for (const auto figure : kFigures) means[group].*figure += of_set.*figure;
    counts[group] += 1;
  }
  for (auto& [group, mean] : means)
    for (const auto figure : kFigures) mean.*figure /= counts[group];
  return means;
}

std::vector<std::uint8_t> correct_rows(const at::Tensor& evidence, const at::Tensor& labels) {
  return numbers_of<std::uint8_t>(evidence.argmax(-1).eq(labels).to(torch::kByte).contiguous());
}

Calibration calibration_of(const at::Tensor& logits, const at::Tensor& labels) {
  const auto log_p = logits.to(torch::kDouble).log_softmax(-1).contiguous();
  return calibration(
      {log_p.const_data_ptr<double>(), static_cast<std::size_t>(log_p.numel())},
      {labels.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(labels.numel())});
}

// Shares per bin over common bins from the 0.1 % to the 99.9 % quantile of both together; what lies
// outside counts in the outermost bins.
Histogram histogram(const std::vector<double>& id, const std::vector<double>& ood) {
  std::vector<double> all;
  for (const auto* scores : {&id, &ood})
    std::copy_if(scores->begin(), scores->end(), std::back_inserter(all),
                 [](double s) { return std::isfinite(s); });
  if (all.empty()) all.push_back(0);
  double low = threshold_at(all, 0.001), high = threshold_at(all, 0.999);
  if (!(high > low)) {
    low -= std::max(0.5, 1e-9 * std::abs(low));  // which a large number has room for
    high = low + 2 * std::max(0.5, 1e-9 * std::abs(low));
  }
  const auto shares = [&](const std::vector<double>& v) {
    std::vector<double> bins(kBins, 0.0);
    for (const double x : v) {
      const double at =
          std::min((std::clamp(x, low, high) - low) / (high - low) * kBins, kBins - 1.0);
      bins[static_cast<std::size_t>(at)] += 1.0 / static_cast<double>(v.size());
    }
    return bins;
  };
  return {low, high, shares(id), shares(ood)};
}

}  // namespace

std::vector<double> score_numbers(const at::Tensor& scores, const std::string& what) {
  auto v = numbers_of<double>(scores.to(torch::kDouble).contiguous());
  for (const double x : v)
    if (std::isnan(x))
      throw DivergedError("the network gives NaN for " + what +
                          "; train again with a smaller `lr`");
  return v;
}

Energies energies_of(Classifier& network, const Task& task, std::uint64_t seed,
                     const std::string& what) {
  const auto of = [&](const Samples& held_out, const Samples& trained) {
    const Samples& s = held_out.size() > 0 ? held_out : trained;
    if (s.size() == 0) return std::vector<double>();
    return score_numbers(energy_score(run_network(network, task, s).logits), what);
  };
  return {of(deciding_half(task, seed), task.train),
          of(task.validation_outliers, task.train_outliers)};
}

HeldOut held_out_with(Classifier& network, const Objective& objective, const Task& task,
                      std::vector<double> scores) {
  HeldOut h;
  h.scores = std::move(scores);
  if (task.validation.size() == 0) return h;
  h.output = run_network(network, task, task.validation);
  const auto evidence = objective.readout(h.output).evidence;
  if (evidence.defined()) h.accuracy = accuracy(evidence, task.validation.labels);
  return h;
}

HeldOut test_held_out(Classifier& network, const Objective& objective, const Task& task,
                      const FittedScores& scores, std::uint64_t seed, bool decided) {
  HeldOut h = held_out_with(network, objective, task, {});
  if (task.validation.size() == 0) return h;
  auto output = h.output;
  if (decided || scores.learned_of_held_out(objective))
    output = rows_of(output, held_out_halves(task.validation.size(), seed).second);
  h.scores = score_numbers(scores.compute(scores.run_score(objective), objective, output),
                           "held-out data");
  std::sort(h.scores.begin(), h.scores.end());
  return h;
}

void save_test_scores(const std::filesystem::path& folder, const TestScores& scores,
                      const std::string& run_id) {
  TensorFile file;
  file.metadata = {{"format", "ood-test-scores"}, {"run", run_id}};
  file.tensors.emplace_back("id", torch::tensor(scores.id, torch::kDouble));
  for (const auto& [set, values] : scores.ood)
    file.tensors.emplace_back("ood." + set, torch::tensor(values, torch::kDouble));
  write_safetensors(folder / kTestScoresFile, file);
}

TestScores load_test_scores(const std::filesystem::path& folder, const std::string& run_id) {
  const auto path = folder / kTestScoresFile;
  const TensorFile file = read_safetensors(path);
  if (!file.belongs_to(run_id)) throw DataError(path.string() + ": is of another training");
  TestScores s;
  const std::string prefix = "ood.";
  for (const auto& [name, tensor] : file.tensors) {
    if (tensor.scalar_type() != torch::kDouble) throw DataError(path.string() + ": is damaged");
    if (name == "id")
      s.id = numbers_of<double>(tensor);
    else if (name.starts_with(prefix))
      s.ood[name.substr(prefix.size())] = numbers_of<double>(tensor);
  }
  return s;
}

void run_in_parts(Classifier& network, const std::vector<double>& mean,
                  const std::vector<double>& deviation, const Inputs& all,
                  const std::function<void(const NetworkOutput&, std::int64_t begin)>& visit,
                  const Ranks& ranks) {
  const torch::NoGradGuard no_grad;
  // Threads may share a network that is in evaluation mode.
  const bool was_training = network.is_training();
  if (was_training) network.eval();
  const auto like = network.parameters().front().options();
  const std::int64_t rows = rows_at_once(all.shape(), kRows);
  const auto part = [&](std::int64_t begin) {
    const auto inputs = all.slice(begin, std::min(begin + rows, all.size()));
    return network.forward(normalised(inputs, mean, deviation).to(like));
  };
  // Parts are the same for any number of ranks, so that their numbers are, too.
  const std::int64_t count = std::max<std::int64_t>((all.size() + rows - 1) / rows, 1);
  for (std::int64_t i = 0; i < count; i += ranks.size()) {
    // A rank without a part of its own does another's, for the shape.
    const auto own = part(std::min(i + ranks.rank(), count - 1) * rows);
    if (ranks.alone()) {
      visit(own, i * rows);
      continue;
    }
    const auto classes = own.logits.size(1), features = own.features.size(1);
    auto sent = torch::zeros({rows, classes + features}, own.logits.options());
    sent.narrow(0, 0, own.logits.size(0)).copy_(torch::cat({own.logits, own.features}, 1));
    const auto received = ranks.gather(sent);
    for (std::int64_t r = 0; r < ranks.size() && i + r < count; ++r) {
      const std::int64_t begin = (i + r) * rows;
      const auto theirs = received[r].slice(0, 0, std::min(rows, all.size() - begin));
      visit({theirs.narrow(1, 0, classes), theirs.narrow(1, classes, features)}, begin);
    }
  }
  if (was_training) network.train();
}

NetworkOutput run_network(Classifier& network, const std::vector<double>& mean,
                          const std::vector<double>& deviation, const Inputs& all,
                          const Ranks& ranks) {
  NetworkOutput whole;
  const auto put = [&](at::Tensor& to, const at::Tensor& part, std::int64_t begin) {
    if (!to.defined())
      to = torch::empty({all.size(), part.size(1)}, part.options().device(torch::kCPU));
    to.narrow(0, begin, part.size(0)).copy_(part);
  };
  const auto visit = [&](const NetworkOutput& out, std::int64_t begin) {
    put(whole.logits, out.logits, begin);
    put(whole.features, out.features, begin);
  };
  run_in_parts(network, mean, deviation, all, visit, ranks);
  return whole;
}

double accuracy(const at::Tensor& evidence, const at::Tensor& labels) {
  return evidence.argmax(-1).eq(labels).to(torch::kDouble).mean().item<double>();
}

std::vector<std::optional<double>> class_accuracy(const at::Tensor& evidence,
                                                  const at::Tensor& labels, std::int64_t classes) {
  const auto right = evidence.argmax(-1).eq(labels);
  std::vector<std::optional<double>> each;
  for (std::int64_t c = 0; c < classes; ++c) {
    const auto of_class = right.masked_select(labels.eq(c));
    each.push_back(of_class.numel() == 0
                       ? std::nullopt
                       : std::optional(of_class.to(torch::kDouble).mean().item<double>()));
  }
  return each;
}

ObjectiveResults evaluate(Classifier& network, const Objective& objective, const Task& task,
                          const FittedScores& scores, const HeldOut& held_out,
                          const ThresholdRule& rule, std::uint64_t seed, TestScores* test_scores) {
  ObjectiveResults result;
  result.objective = objective.entry().name;
  result.score = scores.run_score(objective);
  if (result.score == kJoint) result.members = scores.members();
  result.own_score = objective.entry().score;
  const auto id = run_network(network, task, task.test);
  const auto scores_of_id = scores.compute_all(objective, id);
  std::vector<std::pair<std::string, std::map<std::string, at::Tensor>>> sets;
  for (const auto& [name, samples] : task.ood)
    sets.emplace_back(name, scores.compute_all(objective, run_network(network, task, samples)));
  const auto readout = objective.readout(id);
  std::vector<std::uint8_t> correct;
  if (readout.evidence.defined()) {
    result.accuracy = accuracy(readout.evidence, task.test.labels);
    result.class_accuracy = class_accuracy(readout.evidence, task.test.labels, task.classes());
    correct = correct_rows(readout.evidence, task.test.labels);
  }
  if (readout.logits.defined())
    result.calibration = calibration_of(readout.logits, task.test.labels);
  result.test_samples = task.test.size();
  if (!held_out.scores.empty()) {
    result.validation_accuracy = held_out.accuracy;
    result.false_alarms = rule.false_alarms;
    result.false_alarms_confidence = rule.confidence;
    result.threshold_samples = static_cast<std::int64_t>(held_out.scores.size());
    result.threshold = threshold_by(rule, held_out.scores).value;
  }
  result.unavailable_scores = scores.unavailable();
  const auto add = [&](const std::string& score) {
    const auto& of_id = scores_of_id.at(score);
    if (!of_id.defined()) return;
    const auto id_scores = score_numbers(of_id, "the test data");
    const auto rejected = [&](const std::vector<double>& of) {
      const auto n = std::count_if(of.begin(), of.end(),
                                   [&](double score) { return score > *result.threshold; });
      return static_cast<double>(n) / static_cast<double>(of.size());
    };
    const bool is_run_score = score == result.score;
    if (is_run_score && result.threshold) result.test_rejected = rejected(id_scores);
    ByName<Detection> by_set;
    for (const auto& [name, of_set] : sets) {
      const auto ood_scores = score_numbers(of_set.at(score), "OOD set " + name);
      const auto found = by_set[name] = detection(id_scores, ood_scores);
      if (!is_run_score) continue;
      if (test_scores != nullptr) {
        test_scores->id = id_scores;
        test_scores->ood[name] = ood_scores;
      }
      auto& own = result.ood[name];
      own.detection = found;
      own.auroc =
          auroc_interval(id_scores, ood_scores, random_bits(seed, Purpose::kBootstrap, 0, 0));
      own.samples = static_cast<std::int64_t>(ood_scores.size());
      if (result.threshold) own.rejected = rejected(ood_scores);
      if (!correct.empty()) own.open_set = open_set(id_scores, correct, ood_scores);
      auto& curves = result.curves[name];
      for (const auto& p : roc_curve(id_scores, ood_scores)) curves.roc.emplace_back(p.x, p.y);
      curves.histogram = histogram(id_scores, ood_scores);
    }
    if (by_set.empty()) return;
    if (const auto means = group_means(by_set); !means.empty()) result.groups[score] = means;
    result.scores[score] = std::move(by_set);
  };
  for (const std::string& score : scores.names(objective)) {
    try {
      add(score);
    } catch (const DivergedError& e) {
      // One score of many: its NaN is no reason to lose the others.
      if (score == result.score || score == result.own_score) throw;
      result.unavailable_scores[score] = e.what();
    }
  }
  return result;
}

}  // namespace ood
