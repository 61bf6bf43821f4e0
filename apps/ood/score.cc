#include <cerrno>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <optional>
#include <sstream>

#include "apps/ood/commands.h"
#include "apps/ood/rule_flags.h"
#include "apps/ood/scored_inputs.h"
#include "apps/ood/terminal.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood::app {
namespace {

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
    check_output(out, data);
    const Detector detector = Detector::load(run, flags.asked(), device);
    std::optional<Csv> csv;  // no file is made for data that cannot be scored
    score_inputs(detector, data, pictures, [&](const ScoredInputs& part) {
      if (!csv) {
        csv.emplace(out);
        csv->write("input,class,score,p_value,accepted,error\n");
      }
      csv->write(lines(detector, part));
    });
    std::cerr << "scored " << scored_ << ": " << accepted_ << " accepted, " << scored_ - accepted_
              << " rejected at threshold " << detector.threshold().value << " (at most "
              << 100 * detector.rule().false_alarms << " % of ID inputs rejected, confidence "
              << 100 * detector.rule().confidence << " %)\n";
    if (failed_ > 0) std::cerr << "warning: not scored: " << failed_ << "; column error says why\n";
    if (scored_ == 0) throw DataError(data + ": expected inputs that can be scored, got none");
  }

 private:
  std::int64_t scored_ = 0, accepted_ = 0, failed_ = 0;

  std::string lines(const Detector& detector, const ScoredInputs& part) {
    std::ostringstream out_lines;
    out_lines << std::setprecision(12);
    std::int64_t row = 0;
    for (std::size_t i = 0; i < part.names.size(); ++i) {
      out_lines << field(part.names[i]) << ",";
      if (!part.errors[i].empty()) {
        ++failed_;
        out_lines << ",,,," << field(with_flags(part.errors[i])) << "\n";
        continue;
      }
      const auto c = part.answer.classes.const_data_ptr<std::int64_t>()[row];
      const bool yes = part.answer.accepted.const_data_ptr<bool>()[row];
      out_lines << field(c < 0 ? "" : detector.class_names()[static_cast<std::size_t>(c)]) << ","
                << part.answer.scores.const_data_ptr<double>()[row] << ","
                << part.answer.p_values.const_data_ptr<double>()[row] << ","
                << (yes ? "accept" : "reject") << ",\n";
      ++scored_;
      accepted_ += yes;
      ++row;
    }
    return out_lines.str();
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
                   ".npy or .npz file or a table of numbers (.csv)")
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
      "held-out ID data, accept or reject, and for what cannot be scored the error alone.\n"
      "A p-value is the share of held-out scores at least as high, the input's own counted with\n"
      "them: (k + 1) / (n + 1); the threshold that keeps its promise with that confidence rejects "
      "fewer than those below --false-alarms.\n"
      "Example:\n  ood score runs/oe path/to/pictures --out scores.csv");
  command->callback([state] { state->run_command(); });
}

}  // namespace ood::app
