#pragma once

#include <cstdint>
#include <string>

namespace ood {

/// What a launcher says of a process that is one of several: the variables of torchrun, which may be
/// set by hand as well.
struct Environment {
  int rank = 0;                       ///< RANK
  int size = 1;                       ///< WORLD_SIZE
  std::string address = "127.0.0.1";  ///< MASTER_ADDR
  std::uint16_t port = 29500;         ///< MASTER_PORT
  bool launcher_has_store = false;    ///< TORCHELASTIC_USE_AGENT_STORE: nobody else may hold it
  int restarts = 0;                   ///< TORCHELASTIC_RESTART_COUNT, which differs between hosts
  std::string launch;     ///< of a launcher that starts ranks again: its name; "": of none
  int store_fd = -1;      ///< OOD_STORE_FD, a socket that listens for rank 0's store; -1: none
  std::string interface;  ///< GLOO_SOCKET_IFNAME, e.g. eth0; "": by the host's name
};

/// UsageError names a variable that is missing or cannot be used.
Environment environment();

/// The name of this host.
std::string host_name();

}  // namespace ood
