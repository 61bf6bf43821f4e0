#include "apps/ood/terminal.h"

#include <algorithm>
#include <cstdio>

namespace ood::app {

std::string with_flags(const std::string& message) {
  std::string out;
  for (std::size_t i = 0; i < message.size(); ++i) {
    const auto end = message[i] == '`' ? message.find('`', i + 1) : std::string::npos;
    const auto name = end == std::string::npos ? "" : message.substr(i + 1, end - i - 1);
    const bool is_option = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || c == '-';
    });
    if (!is_option) {
      out += message[i];
      continue;
    }
    out += "--" + name;
    i = end;
  }
  return out;
}

std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
      continue;
    }
    char code[8];
    std::snprintf(code, sizeof code, "\\x%02x", byte);
    out += code;
  }
  return out;
}

void Terminal::tell(const std::string& line) {
  if (progress_ != nullptr) progress_->break_line();
  std::fprintf(stderr, "%s\n", printable(with_flags(line)).c_str());
}

void Terminal::progress(const std::string& job, std::int64_t done, std::int64_t total,
                        const std::string& note) {
  // One of the same name that ended early may be followed by another.
  if (progress_ == nullptr || job != job_ || done < done_) {
    progress_ = std::make_unique<Progress>(job, total);
    job_ = job;
  }
  done_ = done;
  progress_->update(done, note);
  if (done >= total) progress_.reset();
}

}  // namespace ood::app
