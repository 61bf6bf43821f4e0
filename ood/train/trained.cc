#include "ood/train/trained.h"

#include <nlohmann/json.hpp>

#include "ood/errors.h"
#include "ood/torch.h"
#include "ood/version.h"

namespace ood {
namespace {

constexpr const char* kScores = "validation_scores";
// Of the file; raised when an older program could not use a newer file.
constexpr int kFormat = 2;

}  // namespace

void save_trained(const std::filesystem::path& path, const Trained& trained) {
  TensorFile file = tensors_of(trained.model);
  file.tensors.emplace_back(kScores, torch::tensor(trained.validation_scores, torch::kDouble));
  file.metadata = {{"format", "ood-run"},
                   {"format_version", std::to_string(kFormat)},
                   {"version", kVersion},
                   {"description", to_json(trained.description).dump()}};
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
  if (text("format_version") != std::to_string(kFormat))
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
  if (const auto scores = file.find(kScores); scores.defined())
    t.validation_scores.assign(scores.const_data_ptr<double>(),
                               scores.const_data_ptr<double>() + scores.numel());
  return t;
}

}  // namespace ood
