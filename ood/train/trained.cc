#include "ood/train/trained.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/data/numbers.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/torch.h"
#include "ood/train/device.h"
#include "ood/train/package_file.h"
#include "ood/train/run_files.h"
#include "ood/version.h"

namespace ood {
namespace {

constexpr const char* kScores = "validation_scores";
constexpr const char* kValidatedOn = "validated_on";
constexpr const char* kRule = "threshold";
constexpr const char* kArchive = "network.pt";
// Of the file; raised when an older program could not use a newer file. Of the one before, every
// score is that of the rule.
constexpr int kRunFormat = 8, kOldestFormat = 7;

std::optional<ThresholdRule> stored_rule(const TensorFile& file,
                                         const std::filesystem::path& path) {
  constexpr std::uint64_t kLargest = 1 << 16;
  const auto beside = path.parent_path() / kOldRuleFile;
  if (file.text("format_version") == std::to_string(kOldestFormat) &&
      path.filename() == kModelFile && std::filesystem::exists(beside))
    return rule_of_text(read_text(beside, kLargest), beside);
  const std::string text = file.text(kRule);
  return text.empty() ? std::nullopt : std::optional(rule_of_text(text, path));
}

// Takes over what fits. Of a frozen network all must, but for the last layer; `what` names the file.
void take_weights(Classifier& network, const TensorFile& file, const std::string& what,
                  bool freeze) {
  const torch::NoGradGuard no_grad;
  std::size_t taken = 0, all = 0, of_body = 0;
  std::string first_other;
  const auto take = [&](const std::string& name, at::Tensor to) {
    ++all;
    const auto from = file.find(name);
    if (from.defined() && from.sizes() == to.sizes()) {
      to.copy_(from);
      ++taken;
      of_body += !Classifier::is_of_head(name);
    } else if (!from.defined() && name.find("num_batches_tracked") != std::string::npos) {
      --all;  // a counter that weights of before PyTorch 0.4.1 do not have, and nothing reads
    } else if (first_other.empty() && !Classifier::is_of_head(name)) {
      first_other = name + " " +
                    (from.defined() ? c10::str(from.sizes()) : std::string("nothing")) +
                    " instead of " + c10::str(to.sizes());
    }
  };
  for (const auto& p : network.named_parameters()) take(p.key(), p.value());
  for (const auto& b : network.named_buffers()) take(b.key(), b.value());
  if (freeze && !first_other.empty())
    throw UsageError("`freeze`: expected weights that fit but for the last layer, " + what +
                     " has for " + first_other);
  if (of_body == 0 && !first_other.empty())
    throw DataError(what + ": expected the network's tensors, got none that fits; it has for " +
                    first_other);
  if (taken < all)
    listener().tell("note: " + what + ": " + std::to_string(taken) + " of " + std::to_string(all) +
                    " tensors fit and are taken over");
}

void take_run(Classifier& network, const ModelDescription& description,
              const std::filesystem::path& run, bool freeze) {
  const auto path = model_of(run);
  const TensorFile file = read_safetensors(path);
  const auto json = parse_json(file.text("description"));
  const std::string model = json.is_object() ? json.value("model", "") : "";
  if (model != description.model)
    throw DataError("`init`: expected a run with `model` " + description.model + ", " +
                    path.string() + " has " + (model.empty() ? "none" : model));
  // All that there is to take over of it was learned on the features of its own code.
  if (json.value("package", "") != description.package)
    throw DataError("`init`: expected a run of the same machine code as `model`, " + path.string() +
                    " has another");
  take_weights(network, file, "`init` " + path.string(), freeze);
}

}  // namespace

void save_trained(const std::filesystem::path& path, const Trained& trained) {
  TensorFile file = tensors_of(trained.model);
  file.tensors.emplace_back(kScores, torch::tensor(trained.validation_scores, torch::kDouble));
  const NetworkFile& own = trained.description.file;
  if (own.kind == kPackageNetwork) keep_package(own, trained.description.package, path);
  if (own.kind == kScriptNetwork) {
    auto bytes = torch::empty({static_cast<std::int64_t>(own.content.size())}, torch::kByte);
    std::memcpy(bytes.mutable_data_ptr(), own.content.data(), own.content.size());
    file.tensors.emplace_back(kArchive, bytes);
  }
  file.metadata = {{"format", "ood-run"},
                   {"format_version", std::to_string(kRunFormat)},
                   {"version", kVersion},
                   {"run", trained.run_id},
                   {"description", to_json(trained.description).dump()}};
  if (trained.rule) file.metadata[kRule] = to_text(*trained.rule);
  if (!trained.validated_on.empty()) file.metadata[kValidatedOn] = trained.validated_on;
  trained.scores.write(file, /*all=*/false);
  write_safetensors(path, file);
}

Trained load_trained(const std::filesystem::path& path) {
  const TensorFile file = read_safetensors(path);
  if (file.text("format") != "ood-run")
    throw DataError(path.string() + ": expected a model of `ood train`, got other tensors");
  const std::string version = file.text("format_version");
  if (version != std::to_string(kRunFormat) && version != std::to_string(kOldestFormat))
    throw DataError(path.string() + ": was written by ood " + file.text("version") +
                    " in another format; this is ood " + kVersion + ", train again");
  if (!file.checked) throw DataError(path.string() + ": damaged: it has no checksum");
  Trained t;
  t.run_id = file.text("run");
  t.validated_on = file.text(kValidatedOn);
  t.rule = stored_rule(file, path);
  const auto json = parse_json(file.text("description"));
  if (!json.is_object()) throw DataError(path.string() + ": its description is damaged");
  t.description = description_of(json);
  if (const auto bytes = file.find(kArchive); bytes.defined()) {
    if (bytes.scalar_type() != torch::kByte || t.description.model != kScriptNetwork)
      throw DataError(path.string() +
                      ": damaged: it has the file of a network that is not its own");
    t.description.file = {
        kScriptNetwork,
        std::string(static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()),
        {}};
  }
  if (t.description.model == kPackageNetwork)
    t.description.file = package_beside(path, t.description.package);
  std::int64_t numbers = 0;
  for (const auto& [unused, tensor] : file.tensors) numbers += tensor.numel();
  try {
    check_description(t.description, numbers);
    t.model = make_model(t.description);
  } catch (const Error& e) {
    throw DataError(path.string() + ": " + e.what());
  }
  fill_model(t.model, file, path);
  t.model.network->eval();
  t.model.objective->eval();
  t.scores = FittedScores::read(file, path);
  if (const auto scores = file.find(kScores); scores.defined())
    t.validation_scores = numbers_of<double>(scores);
  return t;
}

void compute_on(c10::Device device, const Trained& trained) {
  const ModelDescription& d = trained.description;
  compute_on(device, *trained.model.network, bool(d.file), d.mean, d.deviation, [&] {
    return Inputs(torch::zeros({1, d.channels, d.height, d.width},
                               d.embeddings ? torch::kFloat : torch::kByte));
  });
}

void save_scores(const std::filesystem::path& folder, const FittedScores& scores,
                 const std::string& run_id) {
  TensorFile file;
  file.metadata = {{"format", "ood-scores"}, {"version", kVersion}, {"run", run_id}};
  scores.write(file, /*all=*/true);
  write_safetensors(folder / kScoresFile, file);
}

FittedScores load_scores(const std::filesystem::path& folder, const std::string& run_id) {
  const auto path = folder / kScoresFile;
  const TensorFile file = read_safetensors(path);
  if (!file.belongs_to(run_id))
    throw DataError(path.string() +
                    ": belongs to another training than the model; fit them again with `ood fit`");
  return FittedScores::read(file, path);
}

Model initial_model(const ModelDescription& description, const RunOptions& o, bool filled) {
  torch::manual_seed(static_cast<std::uint64_t>(description.seed));
  Model model = make_model(description, /*trains=*/!o.freeze);
  if (filled && !o.init.empty()) take_run(*model.network, description, o.init, o.freeze);
  if (filled && !o.weights.empty())
    take_weights(*model.network, read_safetensors(o.weights), "`weights` " + o.weights, o.freeze);
  if (o.freeze) model.network->freeze();
  return model;
}

}  // namespace ood
