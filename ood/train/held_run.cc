#include "ood/train/held_run.h"

#include "ood/errors.h"
#include "ood/registry/text.h"
#include "ood/train/checkpoint.h"
#include "ood/train/recipe.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"
#include "ood/train/run_folder.h"

namespace ood {
namespace fs = std::filesystem;

// How the classes were named says nothing once the content of the data is the same.
std::string comparable(RunOptions o) {
  o = without_circumstances(std::move(o));
  o.known = o.unknown = o.outliers = "";
  for (auto& item : o.ood_data) item = ood_set_name(item);
  o.split_seed = division_seed(o);
  return to_toml(o);
}

HeldRun held_run(const fs::path& out, const RunOptions& options, const Task& task) {
  const bool finished = fs::exists(out / kResultsFile), begun = Checkpoints(out).any();
  // A training that ended while it was tested leaves a model alone, and is then trained anew.
  if (!finished && !begun && !holds_results(out)) return {};
  RunOptions there;
  try {
    there = read_config(out / kConfigFile);
  } catch (const Error& e) {
    return {HeldRun::kOther, e.what()};
  }
  const auto asked = completed(options, task, &there);
  if (const auto a = comparable(there), b = comparable(asked); a != b) {
    const auto [has, wants] = first_difference(a, b);
    if (has.starts_with("test_fingerprint"))
      return {HeldRun::kOther, "other test data; `ood eval` tests a finished training on further"};
    return {HeldRun::kOther, has + ", asked for " + wants};
  }
  return {finished ? HeldRun::kFinished : begun ? HeldRun::kUnfinished : HeldRun::kNothing};
}

}  // namespace ood
