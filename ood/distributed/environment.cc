#include "ood/distributed/environment.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "ood/errors.h"

namespace ood {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int number(const char* name, int low, int high, int otherwise) {
  const std::string text = variable(name);
  if (text.empty()) return otherwise;
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high)
    throw UsageError(std::string(name) + ": expected a whole number from " + std::to_string(low) +
                     " to " + std::to_string(high) + ", got \"" + text + "\"");
  return value;
}

}  // namespace

Environment environment() {
  constexpr int kMost = 1 << 20;
  Environment e;
  e.size = number("WORLD_SIZE", 1, kMost, 1);
  e.restarts = number("TORCHELASTIC_RESTART_COUNT", 0, kMost, 0);
  // The run's name may be "none"; the launcher's process makes it one of this launch.
  if (const auto run = variable("TORCHELASTIC_RUN_ID"); !run.empty())
    e.launch = run + " by " + std::to_string(::getppid()) + " on " + host_name();
  if (e.size == 1) return e;
  if (variable("RANK").empty())
    throw UsageError("WORLD_SIZE is " + std::to_string(e.size) +
                     ", and RANK is not set; expected both");
  e.rank = number("RANK", 0, e.size - 1, 0);
  if (const auto address = variable("MASTER_ADDR"); !address.empty()) e.address = address;
  e.port = static_cast<std::uint16_t>(number("MASTER_PORT", 1, 65535, e.port));
  e.launcher_has_store = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  e.store_fd = number("OOD_STORE_FD", 0, kMost, -1);
  e.interface = variable("GLOO_SOCKET_IFNAME");
  return e;
}

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace ood
