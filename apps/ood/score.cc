#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "apps/ood/commands.h"
#include "apps/ood/rule_flags.h"
#include "ood/data/dataset.h"
#include "ood/data/picture.h"
#include "ood/data/picture_folder.h"
#include "ood/errors.h"
#include "ood/torch.h"
#include "ood/train/detector.h"
#include "ood/train/safetensors.h"

namespace ood::app {
namespace {

namespace fs = std::filesystem;

// A field of a CSV line (RFC 4180).
std::string field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

struct ScoreCommand {
  std::string run, data, out;
  RuleFlags flags;
  std::int64_t threads = 0;

  void run_command() {
    set_threads(threads);
    const Detector detector = Detector::load(run, flags.asked());
    std::ostringstream csv;
    csv << std::setprecision(12) << "input,class,score,p_value,accepted\n";
    std::int64_t n = 0, accepted = 0;
    const auto write = [&](c10::ArrayRef<fs::path> names, const at::Tensor& inputs) {
      const auto a = detector(inputs);
      for (std::int64_t i = 0; i < a.classes.size(0); ++i) {
        const auto c = a.classes[i].item<std::int64_t>();
        const bool yes = a.accepted[i].item<bool>();
        const auto row = static_cast<std::size_t>(i);
        csv << field(names.empty() ? std::to_string(n) : names[row].string()) << ","
            << field(c < 0 ? "" : detector.class_names()[static_cast<std::size_t>(c)]) << ","
            << a.scores[i].item<double>() << "," << a.p_values[i].item<double>() << ","
            << (yes ? "accept" : "reject") << "\n";
        ++n;
        accepted += yes;
      }
    };
    const auto shape = detector.input_shape();
    const auto pictures = picture_files();
    if (!pictures.empty()) {
      if (shape.size() != 3) throw DataError(data + ": the run takes embeddings, got pictures");
      for (std::size_t i = 0; i < pictures.size(); i += kPictures) {
        const auto some = c10::ArrayRef<fs::path>(pictures).slice(
            i, std::min<std::size_t>(kPictures, pictures.size() - i));
        write(some, read_batch(some, shape));
      }
    } else {
      auto x = load_inputs(data).inputs;
      if (shape.size() == 1 && x.is_floating_point())
        x = x.view({x.size(0), -1});
      else if (shape.size() == 3 && !x.is_floating_point())
        x = resized(with_channels(x, shape[0]), shape[1], shape[2]);
      constexpr std::int64_t kBatch = 1000;
      for (std::int64_t i = 0; i < x.size(0); i += kBatch)
        write({}, x.slice(0, i, std::min(i + kBatch, x.size(0))));
    }
    if (out == "-")
      std::cout << csv.str();
    else
      write_file(out, csv.str());
    std::cerr << n << " inputs, " << accepted << " accepted, " << n - accepted
              << " rejected at threshold " << detector.threshold().value << " (at most "
              << 100 * detector.rule().false_alarms << " % of ID inputs rejected, confidence "
              << 100 * detector.rule().confidence << " %)\n";
  }

 private:
  static constexpr std::size_t kPictures = 500;  // decoded at a time

  static at::Tensor read_batch(c10::ArrayRef<fs::path> paths,
                               const std::vector<std::int64_t>& shape) {
    std::vector<at::Tensor> pictures(paths.size());
    at::parallel_for(0, static_cast<std::int64_t>(paths.size()), 8, [&](auto begin, auto end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        pictures[i] = resized(with_channels(read_picture(paths[i]).unsqueeze(0), shape[0]),
                              shape[1], shape[2]);
    });
    return torch::cat(pictures);
  }

  // Those of a folder of another format have none.
  std::vector<fs::path> picture_files() const {
    if (!fs::exists(data)) throw DataError(data + ": no such file or folder");
    if (fs::is_directory(data)) return pictures_below(data);
    return is_picture_name(data) ? std::vector<fs::path>{data} : std::vector<fs::path>{};
  }
};

}  // namespace

void add_score(CLI::App& app) {
  auto* command = app.add_subcommand("score", "class, outlier score and decision for new inputs");
  auto state = std::make_shared<ScoreCommand>();
  state->out = "-";
  command->add_option("RUN", state->run, "run folder of `ood train`")->required();
  command->add_option("DATA", state->data, "a picture, a folder of them, an idx or .npy file")
      ->required();
  command->add_option("--out", state->out, "CSV file; -: standard output")
      ->type_name("FILE")
      ->capture_default_str();
  state->flags.add(*command);
  add_threads(*command, state->threads);
  command->footer(
      "Columns: input (file, or index), class, score (higher: rather OOD), its p-value among "
      "held-out "
      "ID data, accept or reject.\n"
      "Example:\n  ood score runs/oe path/to/pictures --out scores.csv");
  command->callback([state] { state->run_command(); });
}

}  // namespace ood::app
