#include "ood/kernels/labels.h"

#include "ood/kernels/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ood/kernels/labels.cc"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// Highway wants its other headers after that one.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ood::kernels::HWY_NAMESPACE {

// Plain loops without branches: the compiler turns them into each set's instructions.

LabelCounts Count(const Labels& l) {
  std::int64_t known = 0, unknown = 0, too_large = 0;
  for (std::int64_t i = 0; i < l.count; ++i) {
    const std::int64_t label = l.label[i];
    const std::int64_t taken = !l.ignoring | (label != l.ignored);
    known += taken & (label >= 0);
    unknown += taken & (label < 0);
    too_large += taken & (label >= l.classes);
  }
  return {known, unknown, too_large};
}

template <bool kIgnoring>
HWY_INLINE bool MarkAny(const Labels& l, std::int32_t outlier, std::int32_t* of_row) {
  // The next block's labels come from memory while this block is computed.
  constexpr std::int64_t kLine = 64 / sizeof(std::int64_t);
  for (std::int64_t i = 0; i < l.count; i += kLine) hwy::Prefetch(l.label + l.count + i);
  std::int64_t too_large = 0;
  for (std::int64_t i = 0; i < l.count; ++i) {
    const std::int64_t label = l.label[i];
    const std::int64_t taken = !kIgnoring | (label != l.ignored);
    too_large |= taken & (label >= l.classes);
    const std::int64_t known = label < l.classes ? label : kNoPart;
    const std::int64_t row = label >= 0 ? known : outlier;
    of_row[i] = static_cast<std::int32_t>(kIgnoring && label == l.ignored ? kNoPart : row);
  }
  return too_large != 0;
}

bool Mark(const Labels& l, std::int32_t outlier, std::int32_t* of_row) {
  return l.ignoring ? MarkAny<true>(l, outlier, of_row) : MarkAny<false>(l, outlier, of_row);
}

}  // namespace ood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ood::kernels {

HWY_EXPORT(Count);
HWY_EXPORT(Mark);

LabelCounts count_labels(const Labels& labels) {
  return HWY_DISPATCH_TABLE(Count)[simd_table_index()](labels);
}
bool mark_rows(const Labels& labels, std::int32_t outlier, std::int32_t* of_row) {
  return HWY_DISPATCH_TABLE(Mark)[simd_table_index()](labels, outlier, of_row);
}

}  // namespace ood::kernels
#endif
