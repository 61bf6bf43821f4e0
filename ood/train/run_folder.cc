#include "ood/train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "ood/errors.h"
#include "ood/train/package_file.h"
#include "ood/train/run_files.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kLog = "metrics.jsonl";

std::string reason() { return std::strerror(errno); }

std::vector<const char*> files_of_training(const fs::path& out) {
  // What says that the run is finished goes first.
  std::vector<const char*> names{kResultsFile, kModelFile,  kScoresFile,      kTestScoresFile,
                                 kOldRuleFile, kReportFile, kEvalResultsFile, kEvalReportFile};
  // Elsewhere a file of that name is the user's own.
  if (fs::exists(out / kConfigFile)) names.push_back(kPackageFile);
  return names;
}

}  // namespace

void make_run_folder(const fs::path& out) {
  std::error_code error;
  fs::create_directories(out, error);
  if (error) throw DataError(out.string() + ": cannot be created: " + error.message());
}

bool holds_results(const fs::path& out) {
  return fs::exists(out / kResultsFile) || fs::exists(out / kModelFile);
}

void check_removal(const fs::path& out, const RunOptions& to_come) {
  const auto names = files_of_training(out);
  if (network_file_kind(to_come.model) == kPackageNetwork && fs::exists(out / kPackageFile) &&
      !fs::exists(out / kConfigFile))
    throw UsageError((out / kPackageFile).string() +
                     ": is in the place of the copy that a run keeps; choose another folder with "
                     "`out`");
  const std::string network = is_network_file(to_come.model) ? to_come.model : "";
  for (const auto& [option, file] :
       {std::pair("init", to_come.init), {"weights", to_come.weights}, {"model", network}}) {
    std::error_code none;
    bool goes = fs::equivalent(file, out, none) ||
                fs::equivalent(fs::path(file).parent_path(), out / kCheckpoints, none);
    for (const char* name : names) goes = goes || fs::equivalent(file, out / name, none);
    if (goes)
      throw UsageError("`" + std::string(option) + "`: expected another one than that of " +
                       out.string() + ", whose training is dropped, got " + file);
  }
}

void remove_training(const fs::path& out, const RunOptions& to_come) {
  check_removal(out, to_come);
  for (const char* name : files_of_training(out)) fs::remove(out / name);
  fs::remove_all(out / kCheckpoints);
}

RunLock::RunLock(const fs::path& folder)
    : file_(::open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (file_.fd < 0) throw DataError(folder.string() + ": cannot be written: " + reason());
  if (::flock(file_.fd, LOCK_EX | LOCK_NB) != 0)
    throw DataError(folder.string() + (errno == EWOULDBLOCK
                                           ? ": another ood is at work in this run folder"
                                           : ": cannot be locked: " + reason()));
  remove_temporaries(folder);
}

std::vector<json> read_metrics(const fs::path& folder) {
  std::vector<json> lines;
  std::ifstream in(folder / kLog);
  for (std::string line; std::getline(in, line);) {
    // A killed program may leave half a line.
    auto object = parse_json(line);
    if (object.is_object()) lines.push_back(std::move(object));
  }
  return lines;
}

MetricsLog::MetricsLog(const fs::path& folder, std::int64_t steps)
    : path_(folder / kLog), file_(-1) {
  std::string kept;
  if (steps > 0) {
    bool later = false;
    for (const json& line : read_metrics(folder)) {
      later = later || (line.contains("step") &&
                        whole_number(line["step"], path_.string() + ": step") > steps);
      if (!later) kept += line.dump() + "\n";
    }
  }
  write_file(path_, kept);
  file_.fd = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (file_.fd < 0) throw DataError(path_.string() + ": cannot be written: " + reason());
}

void MetricsLog::write(const json& object) {
  const std::string line = object.dump() + "\n";
  write_all(file_.fd, {line.data(), line.size()}, path_);
}

void MetricsLog::make_durable() {
  if (::fsync(file_.fd) != 0)
    throw DataError(path_.string() + ": cannot be made durable: " + reason());
}

}  // namespace ood
