#include "apps/ood/parameter_text.h"

#include <sstream>

#include "apps/ood/terminal.h"

namespace ood::app {

std::string parameter_lines(const std::string& prefix, const std::vector<ParameterEntry>& table) {
  std::ostringstream out;
  for (const ParameterEntry& p : table)
    out << "  --" << prefix << "." << p.name << " " << p.default_value << "  "
        << with_flags(std::string(p.help)) << "; " << p.range() << " (" << p.source << ")\n";
  return out.str();
}

std::string parameter_markdown(const std::vector<ParameterEntry>& table) {
  if (table.empty()) return "";
  std::ostringstream out;
  out << "\n| parameter | default | range | meaning | where the default comes from "
         "|\n|---|---|---|---|---|\n";
  for (const ParameterEntry& p : table)
    out << "| " << p.name << " | " << p.default_value << " | " << p.range() << " | " << p.help
        << " | " << p.source << " |\n";
  return out.str();
}

}  // namespace ood::app
