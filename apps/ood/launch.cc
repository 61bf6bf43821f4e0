#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "apps/ood/commands.h"
#include "ood/distributed/ranks.h"
#include "ood/errors.h"
#include "ood/train/interrupt.h"

namespace ood::app {
namespace {

volatile std::sig_atomic_t asked = 0, times = 0;  // the signal to end

void remember_signal(int signal) {
  asked = signal;
  times = times + 1;
}

// A socket on a free port of this machine, where rank 0 holds the store: nobody takes it in between.
std::pair<int, int> listening_socket() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const bool bound = fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     ::listen(fd, SOMAXCONN) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  if (!bound) throw DistributedError("no port is free: " + std::string(std::strerror(errno)));
  return {fd, ntohs(address.sin_port)};
}

// Starts the program once for each rank of this machine and waits for them; for machines without
// torchrun, which does the same and more.
struct Launch {
  int processes = 0;

  int run(const std::vector<std::string>& arguments) const {
    if (processes < 1)
      throw UsageError("-n: expected at least 1 process, got " + std::to_string(processes));
    if (arguments.empty() || arguments.front() != "train")
      throw UsageError("expected a training to launch, e.g. ood launch -n 2 train --out runs/two" +
                       (arguments.empty() ? std::string() : "; got " + arguments.front()));
    if (processes > 1 && !can_connect())
      throw UsageError(
          "-n: this program was built without Gloo's headers and trains in one process");
    const auto [store, port] = listening_socket();
    for (const int s : {SIGINT, SIGTERM, SIGHUP})
      if (std::signal(s, remember_signal) == SIG_IGN && s == SIGHUP) std::signal(s, SIG_IGN);
    std::signal(SIGCHLD, SIG_DFL);
    std::vector<pid_t> running;
    for (int rank = 0; rank < processes; ++rank)
      running.push_back(start(rank, store, port, arguments));
    ::close(store);
    return wait_for(running);
  }

 private:
  pid_t start(int rank, int store, int port, const std::vector<std::string>& arguments) const {
    const pid_t parent = ::getpid(), child = ::fork();
    if (child < 0) throw DistributedError("no process: " + std::string(std::strerror(errno)));
    if (child > 0) return child;
    // A launcher that is killed takes its ranks along.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) std::_Exit(1);
    const auto set = [](const char* name, const std::string& value) {
      ::setenv(name, value.c_str(), 1);
    };
    for (const char* of_another : {"TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT",
                                   "TORCHELASTIC_RUN_ID", "TORCHELASTIC_ERROR_FILE"})
      ::unsetenv(of_another);
    if (rank == 0)
      set("OOD_STORE_FD", std::to_string(store));
    else
      ::close(store);
    set(kLaunched, "1");
    set("RANK", std::to_string(rank));
    set("LOCAL_RANK", std::to_string(rank));
    set("WORLD_SIZE", std::to_string(processes));
    set("LOCAL_WORLD_SIZE", std::to_string(processes));
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", std::to_string(port));
    ::setenv("GLOO_SOCKET_IFNAME", "lo", 0);
    const auto threads =
        std::max<int>(static_cast<int>(std::thread::hardware_concurrency()) / processes, 1);
    ::setenv("OMP_NUM_THREADS", std::to_string(threads).c_str(), 0);
    std::vector<char*> argv{const_cast<char*>("ood")};
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    ::execv("/proc/self/exe", argv.data());
    std::perror("ood launch: the program cannot be started once more");
    std::_Exit(1);
  }

  // The status of the rank that failed first, or 0. The others have some time to say what they miss.
  static int wait_for(std::vector<pid_t> running) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::seconds kTerm(10), kKill(40);
    int failed = 0;
    Clock::time_point since;
    bool forwarded = false, terminated = false, killed = false;
    const auto all = [&](int signal) {
      for (const pid_t p : running) ::kill(p, signal);
    };
    while (!running.empty()) {
      int status = 0;
      const pid_t ended = ::waitpid(-1, &status, WNOHANG);
      if (ended > 0) {
        std::erase(running, ended);
        const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (failed == 0 && code != 0) {
          failed = code;
          since = Clock::now();
        }
        continue;
      }
      if (ended < 0 && errno == ECHILD) break;
      if (asked != 0 && !forwarded) {
        all(asked);
        forwarded = true;
      }
      // The second asks not to wait for a checkpoint.
      if (times > 1 && !killed) {
        all(SIGKILL);
        killed = true;
      }
      if (failed != 0 && !terminated && Clock::now() - since > kTerm) {
        all(SIGTERM);
        terminated = true;
      }
      if (failed != 0 && Clock::now() - since > kKill) all(SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return failed;
  }
};

}  // namespace

void add_launch(CLI::App& app) {
  auto* command = app.add_subcommand(
      "launch", "train with several processes of this machine that share each batch");
  auto state = std::make_shared<Launch>();
  command->add_option("-n", state->processes, "processes")->type_name("N")->required();
  command->prefix_command();
  command->footer(
      "Each process is a rank of torch.distributed with the variables of torchrun, which starts "
      "them\n"
      "on several machines: torchrun --no-python --nnodes 2 --nproc-per-node 4 ... ood train ...\n"
      "Example:\n  ood launch -n 2 train --objective cross_entropy --out runs/two");
  command->callback([state, command] {
    if (const int status = state->run(command->remaining()); status != 0) throw ExitStatus{status};
  });
}

}  // namespace ood::app
