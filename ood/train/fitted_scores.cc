#include "ood/train/fitted_scores.h"

#include <nlohmann/json.hpp>
#include <set>

#include "ood/data/files.h"
#include "ood/data/numbers.h"
#include "ood/data/random.h"
#include "ood/errors.h"
#include "ood/metrics/threshold.h"
#include "ood/registry/listener.h"
#include "ood/scores/fit_data.h"
#include "ood/train/evaluate.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* kMetadata = "scores";

// Fewer reference scores give p-values that tie, and the other half no threshold of 5 %.
const std::int64_t kLeastReferences = held_out_needed(0.05);

std::vector<double> parameters_of(const ScoreEntry& entry, const ScoreParameters& given) {
  const auto own = given.find(std::string(entry.name));
  auto values = own == given.end() ? entry.defaults() : values_of(entry.parameters, own->second);
  with_errors_as<UsageError>([&] { check_parameters(entry.name, entry.parameters, values); });
  return values;
}

// The last layer as far as it gives the logits of the classes; nothing where these are made
// otherwise, say of distances to centers.
void take_head(FitData& data, const Classifier& network, const NetworkOutput& output,
               const at::Tensor& class_logits) {
  const auto k = class_logits.size(1);
  if (output.logits.size(1) < k || !class_logits.equal(output.logits.slice(1, 0, k))) return;
  const auto parameters = network.named_parameters();
  data.weight = parameters["fc.weight"].detach().slice(0, 0, k).cpu();
  if (const auto* bias = parameters.find("fc.bias"))
    data.bias = bias->detach().slice(0, 0, k).cpu();
}

}  // namespace

void check_score_name(const std::string& score, const ObjectiveEntry& objective) {
  if (score != kAutoScore && score != kOwnScore && score != kJoint && score != objective.score &&
      find_score(score) == nullptr)
    throw UsageError("`score`: expected auto, own, joint or one of `ood scores`, got " + score);
}

std::vector<std::int64_t> samples_to_fit(const at::Tensor& labels, std::int64_t most,
                                         std::uint64_t seed) {
  const auto n = labels.size(0);
  if (n <= most) return {};
  auto order = permutation(n, seed, Purpose::kHeldOut, 2);
  const auto* label = labels.const_data_ptr<std::int64_t>();
  // Without a sample of a class no score by class could be fitted.
  std::set<std::int64_t> seen;
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto at = order[static_cast<std::size_t>(i)];
    if (seen.insert(label[at]).second || i < most) chosen.push_back(at);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

NetworkOutput rows_of(const NetworkOutput& output, const at::Tensor& rows) {
  return {output.logits.index_select(0, rows), output.features.index_select(0, rows)};
}

std::pair<at::Tensor, at::Tensor> held_out_halves(std::int64_t samples, std::uint64_t seed) {
  const auto order = torch::tensor(permutation(samples, seed, Purpose::kHeldOut, 0), torch::kLong);
  return {order.slice(0, 0, samples / 2), order.slice(0, samples / 2, samples)};
}

Samples deciding_half(const Task& task, std::uint64_t seed) {
  if (task.validation.size() < 2) return task.validation;
  return task.validation.select(
      numbers_of<std::int64_t>(held_out_halves(task.validation.size(), seed).first));
}

FittedScores FittedScores::fit(Classifier& network, const Objective& objective, const Task& task,
                               std::uint64_t seed, std::int64_t bank,
                               const ScoreParameters& parameters, std::int64_t most_bytes) {
  const torch::NoGradGuard no_grad;
  FittedScores all;
  FitData data;
  const auto last = network.named_parameters()["fc.weight"];
  const auto bytes = (last.size(0) + last.size(1)) * static_cast<std::int64_t>(last.element_size());
  const auto chosen = samples_to_fit(task.train.labels, std::max(most_bytes / bytes, bank), seed);
  const Samples samples = chosen.empty() ? task.train : task.train.select(chosen);
  if (!chosen.empty())
    listener().tell("note: scores are fitted to " + std::to_string(chosen.size()) + " of " +
                    std::to_string(task.train.size()) +
                    " training samples, at random; `bank` N takes more");
  const auto training = run_network(network, task, samples);
  data.features = training.features;
  data.labels = samples.labels;
  if (bank > 0 && bank < data.rows())
    data.bank = std::get<0>(
        torch::tensor(permutation(data.rows(), seed, Purpose::kHeldOut, 1), torch::kLong)
            .slice(0, 0, bank)
            .sort());
  data.logits = objective.readout(training).logits;
  if (data.logits.defined()) take_head(data, network, training, data.logits);
  NetworkOutput half;
  if (task.validation.size() >= 2) {
    const auto rows = held_out_halves(task.validation.size(), seed).first;
    half = rows_of(run_network(network, task, task.validation), rows);
    data.held_out_logits = objective.readout(half).logits;
    data.held_out_labels = task.validation.labels.index_select(0, rows);
  }
  for (const ScoreEntry* s : ood::scores()) {
    const std::string name(s->name);
    const auto values = parameters_of(*s, parameters);
    if (s->fit & ScoreCard::kHead && !data.weight.defined())
      all.unavailable_[name] = "the last layer gives no logits of classes";
    else if ((s->uses | s->fit) & ScoreCard::kLogits && !data.logits.defined())
      all.unavailable_[name] = std::string(objective.entry().name) + " trains no logits of classes";
    else if (s->fit & ScoreCard::kHeldOut && !data.held_out_logits.defined())
      all.unavailable_[name] = "nothing is held out";
    else
      try {
        all.fitted_[name] = {values, fit_score(*s, values, data)};
      } catch (const c10::ValueError& e) {
        all.unavailable_[name] = e.what_without_backtrace();
      }
  }
  if (half.logits.defined() && half.logits.size(0) >= kLeastReferences)
    all.join(objective, half);
  else if (half.logits.defined())
    listener().tell("note: the run's score is " + std::string(objective.entry().score) +
                    ", for the " + std::to_string(task.validation.size()) +
                    " held-out samples are too few for a joint one, which takes " +
                    std::to_string(2 * kLeastReferences) + "; `validation` holds out more");
  return all;
}

void FittedScores::join(const Objective& objective, const NetworkOutput& held_out) {
  for (const char* name : {"mds_pp", "rmds"})
    if (fitted_.count(name) != 0) members_.emplace_back(name);
  if (members_.empty()) return;
  const auto readout = objective.readout(held_out);
  if (objective.entry().uses_ood || readout.score.defined())
    members_.emplace_back(kOwnScore);
  else if (fitted_.count("gen") != 0)
    members_.emplace_back("gen");
  for (const auto& name : members_)
    references_.push_back(std::get<0>(single(name, objective, held_out, readout).sort()));
}

bool FittedScores::hold(const FittedScores& of_model) const {
  const auto same = [](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const auto& x, const auto& y) { return x.equal(y); });
  };
  const bool joint = !of_model.members_.empty();
  if (joint && (members_ != of_model.members_ || !same(references_, of_model.references_)))
    return false;
  return chosen_ == of_model.chosen_ &&
         std::all_of(of_model.fitted_.begin(), of_model.fitted_.end(), [&](const auto& theirs) {
           const auto own = fitted_.find(theirs.first);
           return own != fitted_.end() && own->second.parameters == theirs.second.parameters &&
                  same(own->second.state, theirs.second.state);
         });
}

std::string FittedScores::run_score(const Objective& objective) const {
  if (!chosen_.empty()) return chosen_;
  return members_.empty() ? std::string(objective.entry().score) : kJoint;
}

void FittedScores::choose(const std::string& score, const Objective& objective) {
  check_score_name(score, objective.entry());
  const std::string own(objective.entry().score);
  const std::string name = score == kOwnScore ? own : score;
  if (name == kAutoScore) {
    chosen_.clear();
    return;
  }
  const auto all = names(objective);
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    const auto why = unavailable_.find(name);
    throw UsageError("`score`: " + name + " cannot be computed: " +
                     (why != unavailable_.end() ? why->second : "too little is held out"));
  }
  chosen_ = name;
}

bool FittedScores::learned_of_held_out(const Objective& objective) const {
  const std::string name = run_score(objective);
  const ScoreEntry* entry = find_score(name);
  return name == kJoint || (entry != nullptr && entry->fit & ScoreCard::kHeldOut);
}

std::vector<std::string> FittedScores::names(const Objective& objective) const {
  std::vector<std::string> all;
  const std::string own(objective.entry().score);
  for (const auto& [name, unused] : fitted_) all.push_back(name);
  if (fitted_.count(own) == 0) all.push_back(own);
  if (!members_.empty()) all.emplace_back(kJoint);
  return all;
}

at::Tensor FittedScores::single(const std::string& name, const Objective& objective,
                                const NetworkOutput& output, const Readout& readout) const {
  const std::string own(objective.entry().score);
  if (name == kOwnScore || name == own) return own_score(readout, own, output.features);
  const ScoreEntry& s = get_score(name);
  if (s.uses & ScoreCard::kLogits && !readout.logits.defined()) return {};
  const auto& [parameters, state] = fitted_.at(name);
  return compute_score(s, parameters, {readout.logits, output.features}, state);
}

at::Tensor FittedScores::compute(const std::string& name, const Objective& objective,
                                 const NetworkOutput& output) const {
  const torch::NoGradGuard no_grad;
  const auto readout = objective.readout(output);
  if (name != kJoint) return single(name, objective, output, readout);
  std::vector<at::Tensor> each;
  for (const auto& m : members_) each.push_back(single(m, objective, output, readout));
  return joined(each);
}

std::map<std::string, at::Tensor> FittedScores::compute_all(const Objective& objective,
                                                            const NetworkOutput& output) const {
  const torch::NoGradGuard no_grad;
  const auto readout = objective.readout(output);
  std::map<std::string, at::Tensor> all;
  for (const auto& name : names(objective))
    if (name != kJoint) all[name] = single(name, objective, output, readout);
  if (members_.empty()) return all;
  std::vector<at::Tensor> each;
  for (const auto& m : members_)
    each.push_back(all.at(m == kOwnScore ? std::string(objective.entry().score) : m));
  all[kJoint] = joined(each);
  return all;
}

at::Tensor FittedScores::joined(const std::vector<at::Tensor>& each) const {
  for (const auto* of : {&each, &references_})
    for (const auto& s : *of)
      if (s.isnan().any().item<bool>())
        throw DivergedError("the network gives NaN; train again with a smaller `lr`");
  return joint_score(each, references_, Join::kFisherTail);
}

void FittedScores::write(TensorFile& file, bool all) const {
  const bool joint = all || chosen_.empty() || chosen_ == kJoint;
  const auto members = joint ? members_ : std::vector<std::string>();
  json about = {{"score", chosen_},
                {"members", members},
                {"parameters", json::object()},
                {"unavailable", json::object()}};
  for (const auto& [name, score] : fitted_) {
    const bool is_member = std::find(members.begin(), members.end(), name) != members.end();
    if (!all && !is_member && name != chosen_) continue;
    about["parameters"][name] = score.parameters;
    const ScoreEntry& entry = get_score(name);
    for (std::size_t i = 0; i < score.state.size(); ++i)
      file.tensors.emplace_back("scores." + name + "." + std::string(entry.state[i]),
                                score.state[i].contiguous());
  }
  for (std::size_t i = 0; i < members.size(); ++i)
    file.tensors.emplace_back("joint." + members[i], references_[i].contiguous());
  if (all)
    for (const auto& [name, reason] : unavailable_) about["unavailable"][name] = reason;
  file.metadata[kMetadata] = about.dump();
}

FittedScores FittedScores::read(const TensorFile& file, const std::filesystem::path& path) {
  FittedScores s;
  const auto about = parse_json(file.text(kMetadata));
  const auto tensor = [&](const std::string& name) {
    const auto t = file.find(name);
    if (!t.defined())
      throw DataError(path.string() + ": expected a tensor " + name + ", found none");
    return t;
  };
  try {
    s.chosen_ = about.value("score", "");
    about.at("members").get_to(s.members_);
    about.at("unavailable").get_to(s.unavailable_);
    for (const auto& [name, parameters] : about.at("parameters").items()) {
      const ScoreEntry* entry = find_score(name);
      if (entry == nullptr) throw DataError(path.string() + ": has an unknown score " + name);
      Fitted fitted{parameters.get<std::vector<double>>(), {}};
      for (const auto& part : entry->state)
        fitted.state.push_back(tensor("scores." + name + "." + std::string(part)));
      s.fitted_[name] = std::move(fitted);
    }
  } catch (const json::exception&) {
    throw DataError(path.string() + ": what it says of its scores is damaged");
  }
  for (const auto& m : s.members_) s.references_.push_back(tensor("joint." + m));
  return s;
}

}  // namespace ood
