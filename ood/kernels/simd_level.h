#pragma once

#include <string_view>
#include <vector>

namespace ood::kernels {

/// Instruction sets the kernels are compiled for, weakest first. On ARM `kBest` is whatever Highway
/// found there; the x86 names are then never available.
enum class SimdLevel { kScalar, kSse4, kAvx2, kAvx512, kBest };

/// The level that the next kernel call uses. At start: the value of the environment variable
/// `OOD_SIMD` (scalar, sse4, avx2, avx512) where the processor has it, else the best one.
SimdLevel simd_level();

/// Makes all threads use `level` from the next kernel call on; for tests and measurements.
/// Returns false, and changes nothing, where the processor does not have it.
bool set_simd_level(SimdLevel level);

/// The levels this processor has, weakest first; never empty.
std::vector<SimdLevel> available_simd_levels();

/// "scalar", "sse4", "avx2", "avx512" or "best".
std::string_view name(SimdLevel level);

/// What was wrong with the value of `OOD_SIMD`, or an empty text.
std::string_view simd_environment_error();

/// Index into Highway's dispatch tables; of use to kernel files only.
int simd_table_index();

}  // namespace ood::kernels
