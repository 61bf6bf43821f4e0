#include "apps/ood/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ood::app {
namespace {

int terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

constexpr int kPlainLines = 10;

// "12 s", "3 min 05 s", "1 h 02 min".
std::string duration_text(double seconds) {
  const auto s = static_cast<long>(std::lround(std::max(seconds, 0.0)));
  char text[48];
  if (s < 60)
    std::snprintf(text, sizeof text, "%ld s", s);
  else if (s < 3600)
    std::snprintf(text, sizeof text, "%ld min %02ld s", s / 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%ld h %02ld min", s / 3600, s / 60 % 60);
  return text;
}

}  // namespace

Progress::Progress(std::string label, std::int64_t total)
    : label_(std::move(label)),
      total_(std::max<std::int64_t>(total, 1)),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      last_(start_ - std::chrono::hours(1)) {}

Progress::~Progress() { break_line(); }

void Progress::break_line() {
  if (terminal_ && drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

// By the pace since the first word of it, which may come late in a job that goes on.
std::string Progress::time_text(std::int64_t done) {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  if (done >= total_) return duration_text(elapsed);
  const auto fresh = std::max<std::int64_t>(done - first_, 1);
  return duration_text(elapsed / static_cast<double>(fresh) * static_cast<double>(total_ - done)) +
         " left";
}

void Progress::update(std::int64_t done, const std::string& note) {
  if (first_ < 0) first_ = std::max<std::int64_t>(done - 1, 0);
  if (terminal_) {
    const auto now = Clock::now();
    if (done < total_ && now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    draw(done, note);
  } else if (done * kPlainLines / total_ > lines_) {
    lines_ = static_cast<int>(done * kPlainLines / total_);
    std::fprintf(stderr, "%s: %ld/%ld, %s, %s\n", label_.c_str(), static_cast<long>(done),
                 static_cast<long>(total_), note.c_str(), time_text(done).c_str());
  }
}

void Progress::draw(std::int64_t done, const std::string& note) {
  const std::string text =
      " " + std::to_string(done * 100 / total_) + "% " + note + " " + time_text(done);
  const int width = terminal_width() - 1;
  const int bar = std::min(30, width - static_cast<int>(label_.size() + text.size()) - 3);
  std::string line = label_;
  if (bar >= 5) {
    const auto full = static_cast<std::size_t>(done * bar / total_);
    line += " [" + std::string(full, '#') + std::string(static_cast<std::size_t>(bar) - full, '.') +
            "]";
  }
  line += text;
  line.resize(static_cast<std::size_t>(std::max(width, 1)), ' ');
  std::fprintf(stderr, "\r%s", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace ood::app
