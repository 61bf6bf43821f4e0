#include "ood/train/trained.h"

#include <nlohmann/json.hpp>

#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/torch.h"
#include "ood/version.h"

namespace ood {
namespace {

constexpr const char* kScores = "validation_scores";
// Of the file; raised when an older program could not use a newer file.
constexpr int kRunFormat = 5;

}  // namespace

void save_trained(const std::filesystem::path& path, const Trained& trained) {
  TensorFile file = tensors_of(trained.model);
  file.tensors.emplace_back(kScores, torch::tensor(trained.validation_scores, torch::kDouble));
  file.metadata = {{"format", "ood-run"},
                   {"format_version", std::to_string(kRunFormat)},
                   {"version", kVersion},
                   {"description", to_json(trained.description).dump()}};
  trained.scores.write(file, /*all=*/false);
  write_safetensors(path, file);
}

Trained load_trained(const std::filesystem::path& path) {
  const TensorFile file = read_safetensors(path);
  const auto text = [&](const char* key) -> std::string {
    const auto it = file.metadata.find(key);
    return it == file.metadata.end() ? "" : it->second;
  };
  if (text("format") != "ood-run")
    throw DataError(path.string() + ": expected a model of `ood train`, got other tensors");
  if (text("format_version") != std::to_string(kRunFormat))
    throw DataError(path.string() + ": was written by ood " + text("version") +
                    " in another format; this is ood " + kVersion + ", train again");
  Trained t;
  const auto json =
      nlohmann::ordered_json::parse(text("description"), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(path.string() + ": its description is damaged");
  t.description = description_of(json);
  t.model = make_model(t.description);
  fill_model(t.model, file, path);
  t.model.network->eval();
  t.model.objective->eval();
  t.scores = FittedScores::read(file, path);
  if (const auto scores = file.find(kScores); scores.defined())
    t.validation_scores.assign(scores.const_data_ptr<double>(),
                               scores.const_data_ptr<double>() + scores.numel());
  return t;
}

void save_scores(const std::filesystem::path& folder, const FittedScores& scores) {
  TensorFile file;
  file.metadata = {{"format", "ood-scores"}, {"version", kVersion}};
  scores.write(file, /*all=*/true);
  write_safetensors(folder / kScoresFile, file);
}

FittedScores load_scores(const std::filesystem::path& folder) {
  return FittedScores::read(read_safetensors(folder / kScoresFile), folder / kScoresFile);
}

void initialise_network(Classifier& network, const ModelDescription& description,
                        const std::filesystem::path& run) {
  const auto path = std::filesystem::is_directory(run) ? run / "model.safetensors" : run;
  const TensorFile file = read_safetensors(path);
  const auto text = file.metadata.find("description");
  const auto json = text == file.metadata.end()
                        ? nlohmann::ordered_json()
                        : nlohmann::ordered_json::parse(text->second, nullptr, false);
  const std::string model = json.is_object() ? json.value("model", "") : "";
  if (model != description.model)
    throw DataError("`init`: expected a run with `model` " + description.model + ", " +
                    path.string() + " has " + (model.empty() ? "none" : model));
  const torch::NoGradGuard no_grad;
  std::size_t taken = 0, all = 0;
  const auto take = [&](const std::string& name, at::Tensor to) {
    ++all;
    const auto from = file.find(name);
    if (!from.defined() || from.sizes() != to.sizes()) return;
    to.copy_(from);
    ++taken;
  };
  for (const auto& p : network.named_parameters()) take(p.key(), p.value());
  for (const auto& b : network.named_buffers()) take(b.key(), b.value());
  if (taken < all)
    listener().tell("note: `init`: " + std::to_string(taken) + " of " + std::to_string(all) +
                    " tensors fit and are taken over");
}

Model initial_model(const ModelDescription& description, const std::string& init) {
  Model model = make_model(description);
  if (!init.empty()) initialise_network(*model.network, description, init);
  return model;
}

}  // namespace ood
