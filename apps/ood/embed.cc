#include <filesystem>
#include <iostream>
#include <optional>

#include "apps/ood/commands.h"
#include "ood/data/arrays.h"
#include "ood/data/csv.h"
#include "ood/data/files.h"
#include "ood/data/npy.h"
#include "ood/errors.h"
#include "ood/train/embedder.h"
#include "ood/train/interrupt.h"
#include "ood/train/recipe.h"
#include "ood/train/run_folder.h"

namespace ood::app {
namespace {

namespace fs = std::filesystem;

struct Embed {
  std::string source, data, out, device = "cpu";
  RunOptions reading;  // of which only the pictures' count
  std::int64_t threads = 0;
  bool overwrite = false;

  void run() {
    reading.resolve();
    set_threads(threads);
    const bool single = fs::path(out).extension() == ".npy";
    const fs::path folder(out);
    std::vector<fs::path> files{folder};
    if (!single)
      files = {folder / "train.npy", folder / "train_labels.npy", folder / "test.npy",
               folder / "test_labels.npy", folder / kClassNames};
    check_output(out, data);
    for (const auto& file : files)
      if (!overwrite && fs::exists(file))
        throw UsageError(file.string() +
                         ": exists; choose another --out, or drop it with --overwrite");
    Embedder embedder = Embedder::load(source, device);
    std::optional<InterruptGuard> interrupt;  // once there are data
    const auto pictures = embedder.reading(picture_options(reading));
    const auto tell = [](const fs::path& path, at::IntArrayRef sizes) {
      std::cout << path.string() << ": " << c10::str(sizes) << "\n";
    };
    const auto write_features = [&](const fs::path& path, const Inputs& inputs) {
      std::int64_t width = 0;
      write_npy(path, inputs.size(), [&](const PutRows& put) {
        embedder.in_parts(inputs, [&](const at::Tensor& part) {
          if (interrupt->interrupted())
            throw Interrupted("interrupted; " + path.string() + " is not written");
          width = part.size(1);
          put(part);
        });
      });
      tell(path, {inputs.size(), width});
    };
    if (single) {
      const Inputs inputs = load_inputs(data, pictures);
      interrupt.emplace();
      return write_features(out, inputs);
    }
    const Dataset d = load_dataset(data, pictures);
    interrupt.emplace();
    if (trained_with(source, data))
      std::cerr << "note: " << source << " was trained with " << data
                << ": what a training with these features holds out of them is not new to the "
                   "network, and the threshold promises too much\n";
    for (const auto& name : d.class_names)
      if (trimmed(name) != name || name.empty() || name.find('\n') != std::string::npos)
        throw DataError(data +
                        ": expected names of classes that fit into the lines of classes.txt, "
                        "without blanks around them, got \"" +
                        name + "\"");
    make_run_folder(folder);
    std::error_code error;
    // So that what an interrupted one leaves is no mixture of two.
    for (const auto& file : files) fs::remove(file, error);
    std::size_t next = 0;
    for (const Samples* samples : {&d.train, &d.test}) {
      write_features(files[next++], samples->inputs);
      write_npy(files[next], samples->labels);
      tell(files[next++], samples->labels.sizes());
    }
    if (d.validation.inputs.defined())
      std::cerr << "note: val is not embedded; `ood train` holds out a share of train.npy\n";
    std::string names;
    for (const auto& name : d.class_names) names += name + "\n";
    write_file(files[next], names);
  }
};

}  // namespace

void add_embed(CLI::App& app) {
  auto* command =
      app.add_subcommand("embed", "write the features that a network gives of your data");
  auto state = std::make_shared<Embed>();
  state->reading.alpha = "";  // the run's
  command
      ->add_option("NETWORK", state->source,
                   "run folder of `ood train`, or FILE.pt or FILE.pt2 of python -m ood.to_program")
      ->required();
  command
      ->add_option("DATA", state->data,
                   "what --data takes; for --out FILE.npy what --ood-data takes")
      ->required();
  command
      ->add_option(
          "--out", state->out,
          "folder for train.npy, test.npy, their labels and classes.txt, as --data takes it; or "
          "FILE.npy for the features of inputs without classes, as --ood-data takes it")
      ->type_name("DIR|FILE.npy")
      ->required();
  add_reading_options(*command, state->reading);
  command->add_flag("--overwrite", state->overwrite, "replace what is there");
  add_device(*command, state->device);
  add_threads(*command, state->threads);
  command->footer(
      "Example:\n  ood embed resnet18.pt pictures --image-size 224 --out features\n"
      "  ood embed resnet18.pt letters --image-size 224 --out letters.npy\n"
      "  ood compare --data features --known 0-4 --unknown 5 --ood-data letters=letters.npy --out "
      "runs/heads");
  command->callback([state] { state->run(); });
}

}  // namespace ood::app
