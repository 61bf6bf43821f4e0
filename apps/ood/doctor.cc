#include <ATen/Parallel.h>
#include <torch/version.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "apps/ood/commands.h"
#include "ood/distributed/ranks.h"
#include "ood/kernels/simd_level.h"
#include "ood/ops/row_terms.h"
#include "ood/registry/registry.h"
#include "ood/torch.h"
#include "ood/train/device.h"
#include "ood/version.h"

namespace ood::app {
namespace {

void line(const char* what, const std::string& value) {
  std::printf("%-12s %s\n", what, value.c_str());
}

// A loss whose value is known in closed form.
bool computes() {
  const auto logits = torch::zeros({4, 8});
  const auto target = torch::tensor({0, 3, -1, -1});
  const auto ce = loss(logits, target, "cross_entropy", std::vector<double>{0}, std::nullopt,
                       std::nullopt, "mean", "default", std::nullopt);
  return std::abs(ce.item<double>() - std::log(8.0)) < 1e-6;
}

void diagnose() {
  line("ood", kVersion);
#ifdef NDEBUG
  line("build", "optimised");
#else
  line("build", "debug: slow; configure with -DCMAKE_BUILD_TYPE=Release");
#endif
  line("torch", TORCH_VERSION);
  line("threads", std::to_string(at::get_num_threads()) + " of " +
                      std::to_string(std::thread::hardware_concurrency()) + " processors");
  std::string levels;
  for (const auto level : kernels::available_simd_levels())
    levels += " " + std::string(kernels::name(level));
  line("SIMD", std::string(kernels::name(kernels::simd_level())) + " (available:" + levels + ")");
  const char* preload = std::getenv("LD_PRELOAD");
  line("allocator", preload != nullptr && *preload != 0 ? std::string("LD_PRELOAD=") + preload :
#ifdef OOD_TCMALLOC
                                                        "tcmalloc");
#else
                                                        "glibc, large buffers kept by the program");
#endif
  line("devices", devices_here());
  line("ranks", can_connect() ? "Gloo over TCP, see docs/distributed.md"
                              : "one process: built without Gloo's headers (libgloo-dev)");
  line("objectives", std::to_string(objectives().size()));
  line("self-test", computes() ? "passed" : "FAILED: the loss of uniform logits is not log C");
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto* command = app.add_subcommand("doctor", "what the program runs on, and whether it computes");
  command->footer("Example:\n  ood doctor");
  command->callback(diagnose);
}

}  // namespace ood::app
