#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "apps/ood/commands.h"
#include "apps/ood/rule_flags.h"
#include "apps/ood/terminal.h"
#include "ood/data/dataset.h"
#include "ood/data/manifest.h"
#include "ood/data/picture.h"
#include "ood/data/picture_files.h"
#include "ood/data/tar.h"
#include "ood/errors.h"
#include "ood/torch.h"
#include "ood/train/detector.h"

namespace ood::app {
namespace {

namespace fs = std::filesystem;

// A field of a CSV line (RFC 4180). A spreadsheet takes for a formula what begins like one, unless
// an apostrophe stands before it.
std::string field(std::string text) {
  if (!text.empty() && std::string("=+-@\t\r").find(text.front()) != std::string::npos)
    text.insert(text.begin(), '\'');
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// The lines of a table, written as they come to a file or to standard output.
class Csv {
 public:
  explicit Csv(const std::string& path) : path_(path) {
    if (path_ == "-") return;
    // What is no regular file, a device or a pipe, is written as it is.
    file_.open(path_, std::ios::trunc);
    if (!file_) throw DataError(path_ + ": cannot be written: " + std::strerror(errno));
  }
  void write(const std::string& lines) {
    auto& out = path_ == "-" ? std::cout : file_;
    out << lines << std::flush;
    if (!out)
      throw DataError((path_ == "-" ? "standard output" : path_) +
                      ": cannot be written: " + std::strerror(errno));
  }

 private:
  std::string path_;
  std::ofstream file_;
};

struct ScoreCommand {
  std::string run, data, out, device = "cpu";
  RuleFlags flags;
  PictureOptions pictures;
  std::int64_t threads = 0;

  void run_command() {
    set_threads(threads);
    const Detector detector = Detector::load(run, flags.asked(), device);
    const auto shape = detector.input_shape();
    const auto files = picture_files();
    if (!files.files.empty() && shape.size() != 3)
      throw DataError(data + ": the run takes embeddings, got pictures");
    const bool are_pictures = !files.files.empty() || !files.unreadable.empty();
    const auto x = are_pictures ? at::Tensor() : inputs_for(detector);
    Csv csv(out);
    csv.write("input,class,score,p_value,accepted,error\n");
    if (are_pictures)
      score_pictures(detector, files, csv);
    else
      score_rows(detector, x, csv);
    std::cerr << scored_ << " inputs, " << accepted_ << " accepted, " << scored_ - accepted_
              << " rejected at threshold " << detector.threshold().value << " (at most "
              << 100 * detector.rule().false_alarms << " % of ID inputs rejected, confidence "
              << 100 * detector.rule().confidence << " %)\n";
    if (failed_ > 0)
      std::cerr << "warning: " << failed_ << " inputs were not scored; column error says why\n";
    if (scored_ == 0) throw DataError(data + ": expected pictures that decode, got none");
  }

 private:
  // Small enough that the work of a thread stays in its cache, large enough for matrix products.
  static constexpr std::int64_t kPictures = 32;
  static constexpr std::int64_t kRows = 1000;

  std::int64_t scored_ = 0, accepted_ = 0, failed_ = 0;

  std::string lines(const Detector& detector, const Detector::Answer& a, std::int64_t row,
                    const std::string& name) {
    if (std::isnan(a.scores.const_data_ptr<double>()[row]))
      return failed(name, "the network gives NaN for it");
    std::ostringstream line;
    line << std::setprecision(12);
    const auto c = a.classes.const_data_ptr<std::int64_t>()[row];
    const bool yes = a.accepted.const_data_ptr<bool>()[row];
    line << field(name) << ","
         << field(c < 0 ? "" : detector.class_names()[static_cast<std::size_t>(c)]) << ","
         << a.scores.const_data_ptr<double>()[row] << ","
         << a.p_values.const_data_ptr<double>()[row] << "," << (yes ? "accept" : "reject") << ",\n";
    ++scored_;
    accepted_ += yes;
    return line.str();
  }

  std::string failed(const std::string& name, const std::string& why) {
    ++failed_;
    return field(name) + ",,,,," + field(with_flags(why)) + "\n";
  }

  struct Scored {
    std::vector<std::string> errors;  // of each picture; "": none
    Detector::Answer answer;          // of those that decode
  };

  Scored decode_and_score(const Detector& detector, c10::ArrayRef<PictureFile> batch) const {
    Scored s;
    std::vector<at::Tensor> good;
    PictureReading reading = detector.reading();
    reading.max_pixels = pictures.max_pixels;
    for (const auto& file : batch) {
      s.errors.emplace_back();
      try {
        good.push_back(detector.prepared(read_picture(file, reading).unsqueeze(0)));
      } catch (const DataError& e) {
        const std::string what = e.what(), prefix = file.path.string() + ": ";
        s.errors.back() = what.rfind(prefix, 0) == 0 ? what.substr(prefix.size()) : what;
      }
    }
    if (!good.empty()) s.answer = detector(torch::cat(good));
    return s;
  }

  // Each thread decodes and scores pictures of its own, so that none waits for another within a
  // layer; what is computed does not depend on how many threads there are.
  void score_pictures(const Detector& detector, const PictureFiles& files, Csv& csv) {
    const c10::ArrayRef<PictureFile> all = files.files;
    const auto n = static_cast<std::int64_t>(all.size());
    const std::int64_t at_once = at::get_num_threads() * std::int64_t{8};
    std::string text;
    for (const auto& line : files.unreadable) {
      const auto colon = line.rfind(": ");
      text += failed(line.substr(0, colon), line.substr(colon + 2));
    }
    for (std::int64_t first = 0; first < n; first += at_once * kPictures) {
      const auto batches = std::min(at_once, (n - first + kPictures - 1) / kPictures);
      std::vector<Scored> scored(static_cast<std::size_t>(batches));
      std::atomic<std::int64_t> next{0};
      const auto part = [&](std::int64_t batch) {
        const auto begin = static_cast<std::size_t>(first + batch * kPictures);
        return all.slice(begin, std::min<std::size_t>(kPictures, all.size() - begin));
      };
      at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t, std::int64_t) {
        for (std::int64_t b; (b = next++) < batches;)
          scored[static_cast<std::size_t>(b)] = decode_and_score(detector, part(b));
      });
      for (std::int64_t b = 0; b < batches; ++b) {
        const auto& s = scored[static_cast<std::size_t>(b)];
        std::int64_t row = 0;
        for (std::size_t i = 0; i < s.errors.size(); ++i) {
          const std::string name = part(b)[i].path.string();
          text += s.errors[i].empty() ? lines(detector, s.answer, row++, name)
                                      : failed(name, s.errors[i]);
        }
      }
      csv.write(text);
      text.clear();
    }
    if (!text.empty()) csv.write(text);
  }

  void score_rows(const Detector& detector, const Inputs& x, Csv& csv) {
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < x.size(); i += kRows) {
      const auto rows = x.slice(i, std::min(i + kRows, x.size()));
      const auto answer = detector(x.embeddings() ? rows.flatten(1) : detector.prepared(rows));
      std::string text;
      for (std::int64_t row = 0; row < answer.scores.size(0); ++row)
        text += lines(detector, answer, row, std::to_string(n++));
      csv.write(text);
    }
  }

  Inputs inputs_for(const Detector& detector) const {
    const auto shape = detector.input_shape();
    const auto x = load_inputs(data, pictures).inputs;
    if (x.size() == 0) throw DataError(data + ": expected inputs, got none");
    const bool embeddings = shape.size() == 1;
    const auto width = x.channels();
    if (x.embeddings() != embeddings || (embeddings && width != shape[0]))
      throw DataError(data + ": the run takes " + input_kind(embeddings, shape[0]) + ", got " +
                      input_kind(x.embeddings(), width));
    return x;
  }

  // Those of a file or folder of another format are none.
  PictureFiles picture_files() const {
    if (!fs::exists(data)) throw DataError(data + ": no such file or folder");
    if (fs::is_directory(data)) {
      PictureFiles files = pictures_below(data);
      if (files.files.empty() && files.unreadable.empty()) {
        if (is_tar_folder(data)) files.files = tar_pictures(data);
        return files;
      }
      if (!files.files.empty() && !is_picture_folder(data)) return {};
      warn_of_other_formats(files, data);
      return files;
    }
    PictureFiles files;
    if (is_picture_name(data)) files.files = {fs::path(data)};
    if (is_manifest_name(data)) files.files = manifest_pictures(data);
    if (is_tar_name(data)) files.files = tar_pictures(data);
    return files;
  }
};

}  // namespace

void add_score(CLI::App& app) {
  auto* command = app.add_subcommand("score", "class, outlier score and decision for new inputs");
  auto state = std::make_shared<ScoreCommand>();
  state->out = "-";
  command->add_option("RUN", state->run, "run folder of `ood train`")->required();
  command
      ->add_option("DATA", state->data,
                   "a picture, a folder, list (.csv, .jsonl) or archive (.tar) of them, an idx, "
                   ".npy or .npz file")
      ->required();
  command->add_option("--out", state->out, "CSV file; -: standard output")
      ->type_name("FILE")
      ->capture_default_str();
  state->flags.add(*command);
  command
      ->add_option("--max-pixels", state->pictures.max_pixels, "a picture of more does not decode")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 30).description(""))
      ->capture_default_str();
  add_device(*command, state->device);
  add_threads(*command, state->threads);
  command->footer(
      "Columns: input (file, or index), class, score (higher: rather OOD), its p-value among "
      "held-out ID data, accept or reject, and for a file that does not decode the error alone.\n"
      "A p-value is the share of held-out scores at least as high; the threshold that keeps its\n"
      "promise with that confidence rejects fewer than those below --false-alarms.\n"
      "Example:\n  ood score runs/oe path/to/pictures --out scores.csv");
  command->callback([state] { state->run_command(); });
}

}  // namespace ood::app
