#include "ood/train/loaded_run.h"

#include "ood/errors.h"
#include "ood/train/device.h"
#include "ood/train/run_data.h"
#include "ood/train/run_files.h"

namespace ood {

LoadedRun load_run(const std::filesystem::path& folder,
                   const std::function<void(RunOptions&)>& change, const std::string& device,
                   bool few_of_training) {
  if (!std::filesystem::exists(folder / kConfigFile))
    throw DataError(folder.string() + ": expected a run folder with config.toml, found none");
  const auto model = model_of(folder);
  LoadedRun run;
  run.options = read_config(folder / kConfigFile);
  const std::string id = run_id(run.options);
  change(run.options);
  const auto there = open_device(device);
  run.options.resolve();
  run.trained = load_trained(model);
  if (run.trained.run_id != id)
    throw DataError(folder.string() +
                    ": model.safetensors is of another training than config.toml; train again");
  RunOptions of_data = run.options;
  of_data.model = "auto";  // the model has what its file said
  TaskOptions task = task_options(of_data);
  // Outliers made of all of them are.
  task.pictures.leave_known = few_of_training && task.synthetic_outliers.empty();
  task.mean = run.trained.description.mean;
  task.deviation = run.trained.description.deviation;
  run.task = make_task(task);
  check_data(folder, run.options, run.task, "the run was trained");
  compute_on(there, run.trained);
  return run;
}

}  // namespace ood
