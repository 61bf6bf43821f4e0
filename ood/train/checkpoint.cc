#include "ood/train/checkpoint.h"

#include <algorithm>

#include "ood/data/files.h"
#include "ood/data/json_field.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/train/safetensors.h"
#include "ood/version.h"

namespace ood {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

constexpr const char* kStart = "step-";
constexpr const char* kOptimizer = "optimizer.";
constexpr std::size_t kNewest = 2;

// The one list of the fields.
template <class P, class Visit>
void visit_position(P& p, const Visit& visit) {
  visit("step", p.step);
  visit("pretrained", p.pretrained);
  visit("seconds", p.seconds);
  visit("epoch_loss", p.epoch_loss);
  visit("epoch_steps", p.epoch_steps);
  visit("best_accuracy", p.best_accuracy);
  visit("best_step", p.best_step);
  visit("epochs_without_gain", p.epochs_without_gain);
}

}  // namespace

json to_json(const Position& position) {
  json j;
  visit_position(position, [&](const char* key, const auto& v) { j[key] = v; });
  return j;
}

Position position_of(const json& j) {
  Position p;
  visit_position(p, [&](const char* key, auto& v) {
    const bool later = std::string_view(key) == "pretrained";  // checkpoints of before have none
    if (!later || j.contains(key)) read_field(j, key, v);
  });
  return p;
}

fs::path Checkpoints::path(std::int64_t step) const {
  char name[48];
  std::snprintf(name, sizeof name, "%s%09ld.safetensors", kStart, static_cast<long>(step));
  return folder_ / name;
}

std::vector<std::int64_t> Checkpoints::steps() const {
  std::vector<std::int64_t> found;
  if (!fs::is_directory(folder_)) return found;
  for (const auto& e : fs::directory_iterator(folder_)) {
    const std::string name = e.path().filename().string();
    if (name.rfind(kStart, 0) != 0 || e.path().extension() != ".safetensors") continue;
    found.push_back(std::atoll(name.c_str() + std::string(kStart).size()));
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool Checkpoints::any() const { return !steps().empty(); }

void Checkpoints::remove_all() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void Checkpoints::save(const Position& position, const Model& model,
                       const Optimizer& optimizer) const {
  // Its run folder must still be there.
  std::error_code error;
  std::filesystem::create_directory(folder_, error);
  if (error) throw DataError(folder_.string() + ": cannot be created: " + error.message());
  TensorFile file = tensors_of(model);
  for (const auto& [name, tensor] : optimizer.state())
    file.tensors.emplace_back(kOptimizer + name, tensor);
  file.metadata = {{"format", "ood-checkpoint"},
                   {"version", kVersion},
                   {"run", run_id_},
                   {"position", to_json(position).dump()}};
  write_safetensors(path(position.step), file);
  auto all = steps();
  while (all.size() > kNewest) {
    std::error_code ignored;
    const bool best = position.best_step > 0 && all.front() == position.best_step;
    if (!best) fs::remove(path(all.front()), ignored);
    all.erase(all.begin());
  }
  remove_temporaries(folder_);
}

TensorFile Checkpoints::read(std::int64_t step) const {
  TensorFile file = read_safetensors(path(step));
  if (file.text("format") != "ood-checkpoint")
    throw DataError(path(step).string() + ": expected a checkpoint, got another file");
  if (!file.checked) throw DataError(path(step).string() + ": damaged: it has no checksum");
  if (!file.belongs_to(run_id_))
    throw DataError(path(step).string() + ": is of a training with other settings or data");
  return file;
}

std::optional<Position> Checkpoints::restore_newest(const Model& model, Optimizer& optimizer,
                                                    std::int64_t total) const {
  auto all = steps();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    std::string why;
    try {
      const TensorFile file = read(*it);
      const Position p = position_of(parse_json(file.text("position")));
      const bool begun = p.step > 0 || (p.step == 0 && p.pretrained);
      if (p.step != *it || !begun || p.step > total || p.best_step < 0 || p.best_step > p.step)
        throw DataError(path(*it).string() + ": expected the position of step " +
                        std::to_string(*it) + " of " + std::to_string(total));
      fill_model(model, file, path(*it));
      std::vector<std::pair<std::string, at::Tensor>> state;
      const std::string prefix = kOptimizer;
      for (const auto& [name, tensor] : file.tensors)
        if (name.rfind(prefix, 0) == 0) state.emplace_back(name.substr(prefix.size()), tensor);
      optimizer.restore(state);
      return p;
    } catch (const c10::Error& e) {
      why = path(*it).string() + ": " + e.what_without_backtrace();
    } catch (const DataError& e) {
      why = e.what();
    } catch (const std::exception&) {
      why = path(*it).string() + ": its position or state is damaged";
    }
    listener().warn(why + "; trying the checkpoint before it");
  }
  return std::nullopt;
}

void Checkpoints::restore_weights(std::int64_t step, const Model& model) const {
  fill_model(model, read(step), path(step));
}

}  // namespace ood
