#include <filesystem>
#include <iostream>

#include "apps/ood/commands.h"
#include "ood/data/files.h"
#include "ood/data/npy.h"
#include "ood/errors.h"
#include "ood/train/embedder.h"

namespace ood::app {
namespace {

namespace fs = std::filesystem;

struct Embed {
  std::string source, data, out;
  PictureOptions pictures;
  std::int64_t threads = 0;

  void run() const {
    set_threads(threads);
    Embedder embedder = Embedder::load(source);
    const auto write = [&](const fs::path& path, const at::Tensor& values) {
      write_npy(path, values);
      std::cout << path.string() << ": " << c10::str(values.sizes()) << "\n";
    };
    if (fs::path(out).extension() == ".npy")
      return write(out, embedder(load_inputs(data, pictures).inputs));
    const Dataset d = load_dataset(data, pictures);
    std::error_code error;
    fs::create_directories(out, error);
    if (error) throw DataError(out + ": cannot be created: " + error.message());
    for (const auto& [part, samples] : {std::pair{"train", &d.train}, {"test", &d.test}}) {
      write(fs::path(out) / (std::string(part) + ".npy"), embedder(samples->inputs));
      write(fs::path(out) / (std::string(part) + "_labels.npy"), samples->labels);
    }
    if (d.validation.inputs.defined())
      std::cerr << "note: val/ is not embedded; `ood train` holds out a share of train.npy\n";
    std::string names;
    for (const auto& name : d.class_names) names += name + "\n";
    write_file(fs::path(out) / kClassNames, names);
  }
};

}  // namespace

void add_embed(CLI::App& app) {
  auto* command =
      app.add_subcommand("embed", "write the features that a network gives of your data");
  auto state = std::make_shared<Embed>();
  command
      ->add_option("NETWORK", state->source,
                   "run folder of `ood train`, or FILE.pt of python -m ood.to_program")
      ->required();
  command
      ->add_option("DATA", state->data,
                   "what --data takes; for --out FILE.npy what --ood-data takes")
      ->required();
  command
      ->add_option(
          "--out", state->out,
          "folder for train.npy, test.npy, their labels and classes.txt, as --data takes it; "
          "or FILE.npy for the features of inputs without classes, as --ood-data takes it")
      ->type_name("DIR|FILE.npy")
      ->required();
  command
      ->add_option("--image-size", state->pictures.image_size,
                   "bring pictures to N x N; 0: as they are. A run has its own size")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
  command->add_flag("--strict", state->pictures.strict,
                    "refuse a picture that does not decode instead of leaving it out");
  add_threads(*command, state->threads);
  command->footer(
      "Example:\n  ood embed resnet18.pt pictures --image-size 224 --out features\n"
      "  ood embed resnet18.pt letters --image-size 224 --out letters.npy\n"
      "  ood compare --data features --known 0-4 --unknown 5 --ood-data letters=letters.npy --out "
      "runs/heads");
  command->callback([state] { state->run(); });
}

}  // namespace ood::app
