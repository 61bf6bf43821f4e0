#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ood::app {

/// Shows on stderr how far a job is: a bar with the remaining time on a terminal, else a plain line
/// now and then.
class Progress {
 public:
  Progress(std::string label, std::int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total`; `note` is short, e.g. the loss.
  void update(std::int64_t done, const std::string& note);
  /// Before another line on stderr.
  void break_line();

 private:
  void draw(std::int64_t done, const std::string& note);
  std::string time_text(std::int64_t done);

  using Clock = std::chrono::steady_clock;
  std::string label_;
  std::int64_t total_, first_ = -1;  // first_: what was done before
  bool terminal_;
  bool drawn_ = false;
  int lines_ = 0;
  Clock::time_point start_, last_;
};

}  // namespace ood::app
