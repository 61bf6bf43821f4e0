#include "ood/train/held_run.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/train/checkpoint.h"
#include "ood/train/recipe.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

// Where the data is and how its classes were named says nothing once its content is the same.
std::string comparable(RunOptions o) {
  o.data = o.known = o.unknown = o.outliers = "";
  for (auto& item : o.ood_data) item = item.substr(0, item.find('='));
  o.threads = 0;
  return to_toml(o);
}

// The first lines that differ.
std::string difference(const std::string& there, const std::string& asked) {
  std::istringstream a(there), b(asked);
  for (std::string x, y;;) {
    const bool more_a = static_cast<bool>(std::getline(a, x)),
               more_b = static_cast<bool>(std::getline(b, y));
    if (!more_a && !more_b) return "";
    if (x != y || more_a != more_b)
      return (more_a ? x : "nothing") + ", asked for " + (more_b ? y : "nothing");
  }
}

}  // namespace

HeldRun held_run(const fs::path& out, const RunOptions& options, const Task& task) {
  const bool finished = fs::exists(out / "results.json");
  if (!finished && !Checkpoints(out).any()) return {};
  RunOptions there;
  try {
    there = read_config(out / "config.toml");
  } catch (const Error& e) {
    return {HeldRun::kOther, e.what()};
  }
  const auto asked = completed(options, task, &there);
  if (const auto text = difference(comparable(there), comparable(asked)); !text.empty())
    return {HeldRun::kOther, text};
  return {finished ? HeldRun::kFinished : HeldRun::kUnfinished};
}

nlohmann::ordered_json read_results(const fs::path& out) {
  constexpr std::uint64_t kLargest = 1 << 30;
  auto file = parse_json(read_text(out / "results.json", kLargest));
  if (!file.is_object() || !file.contains("objectives") || !file.at("objectives").is_array() ||
      file.at("objectives").empty())
    throw DataError((out / "results.json").string() +
                    ": expected the results of a training, found other contents");
  return file;
}

}  // namespace ood
