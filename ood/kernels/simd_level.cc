#include "ood/kernels/simd_level.h"

#include <hwy/highway.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace ood::kernels {
namespace {

struct Level {
  SimdLevel level;
  std::string_view name;
  std::int64_t target;
};

constexpr Level kLevels[] = {
    {SimdLevel::kScalar, "scalar", HWY_SCALAR},
#if HWY_ARCH_X86
    {SimdLevel::kSse4, "sse4", HWY_SSE4},
    {SimdLevel::kAvx2, "avx2", HWY_AVX2},
    {SimdLevel::kAvx512, "avx512", HWY_AVX3},
#else
    {SimdLevel::kBest, "best", ~std::int64_t{0}},
#endif
};

// Highway's own switch is one per process and shared with every other library that uses it.
// This state is ours alone.
struct State {
  hwy::ChosenTarget target;
  std::atomic<SimdLevel> level{SimdLevel::kScalar};
  std::string error;

  bool choose(const Level& wanted) {
    const std::int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
    if (wanted.level != SimdLevel::kScalar && (supported & wanted.target) == 0) return false;
    target.Update(wanted.target & supported);
    level = wanted.level;
    return true;
  }

  State() {
    for (const Level& l : kLevels) choose(l);
    const char* wanted = std::getenv("OOD_SIMD");
    if (wanted == nullptr || *wanted == '\0') return;
    for (const Level& l : kLevels) {
      if (l.name != wanted) continue;
      if (!choose(l))
        error = "OOD_SIMD=" + std::string(wanted) + ": this processor does not have it";
      return;
    }
    error = "OOD_SIMD: expected scalar, sse4, avx2 or avx512, got " + std::string(wanted);
  }
};

State& state() {
  static State s;
  return s;
}

}  // namespace

SimdLevel simd_level() { return state().level; }

bool set_simd_level(SimdLevel level) {
  for (const Level& l : kLevels)
    if (l.level == level) return state().choose(l);
  return false;
}

std::vector<SimdLevel> available_simd_levels() {
  std::vector<SimdLevel> levels;
  for (const Level& l : kLevels)
    if (l.level == SimdLevel::kScalar || (hwy::SupportedTargets() & HWY_TARGETS & l.target) != 0)
      levels.push_back(l.level);
  return levels;
}

std::string_view name(SimdLevel level) {
  for (const Level& l : kLevels)
    if (l.level == level) return l.name;
  return "best";
}

std::string_view simd_environment_error() { return state().error; }

int simd_table_index() { return static_cast<int>(state().target.GetIndex()); }

}  // namespace ood::kernels
