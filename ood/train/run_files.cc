#include "ood/train/run_files.h"

#include <algorithm>
#include <vector>

#include "ood/errors.h"

namespace ood {
namespace fs = std::filesystem;

fs::path model_of(const fs::path& run) {
  if (!fs::is_directory(run)) return run;
  const auto model = run / kModelFile;
  std::error_code error;
  if (fs::exists(model) || !fs::exists(run / kResultsFile, error)) return model;
  std::vector<fs::path> runs;
  for (fs::recursive_directory_iterator it(run, error), end; it != end && !error;
       it.increment(error))
    if (it->path().filename() == kModelFile) runs.push_back(it->path().parent_path());
  if (runs.empty()) return model;
  throw DataError(run.string() + ": is a comparison; expected one of its runs, such as " +
                  std::min_element(runs.begin(), runs.end())->string());
}

}  // namespace ood
