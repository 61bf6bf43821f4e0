#pragma once

#include <memory>
#include <string>

#include "apps/ood/progress.h"
#include "ood/registry/listener.h"

namespace ood::app {

/// A message of the library as the program says it: `known` becomes --known.
std::string with_flags(const std::string& message);

/// Without control characters, which a file's name may have and a terminal would obey.
std::string printable(const std::string& text);

/// Shows what the library says on stderr.
class Terminal : public Listener {
 public:
  void warn(const std::string& line) override { tell("warning: " + line); }
  void tell(const std::string& line) override;
  void progress(const std::string& job, std::int64_t done, std::int64_t total,
                const std::string& note) override;

 private:
  std::string job_;
  std::int64_t done_ = 0;
  std::unique_ptr<Progress> progress_;
};

}  // namespace ood::app
