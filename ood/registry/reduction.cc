#include "ood/registry/reduction.h"

#include <c10/util/Exception.h>

#include <array>

namespace ood {
namespace {

constexpr std::array<std::string_view, 3> kReductions{"none", "mean", "sum"};
constexpr std::array<std::string_view, 3> kBalances{"default", "per_population", "whole_batch"};

std::size_t index_of(std::string_view text, const std::array<std::string_view, 3>& names,
                     std::string_view who, const char* what) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == text) return i;
  C10_THROW_ERROR(ValueError, c10::str(who, ": expected ", what, " ", names[0], ", ", names[1],
                                       " or ", names[2], ", got ", text));
}

}  // namespace

std::string_view name(Reduction r) { return kReductions[static_cast<std::size_t>(r)]; }
std::string_view name(Balance b) { return kBalances[static_cast<std::size_t>(b)]; }
Reduction parse_reduction(std::string_view text, std::string_view who) {
  return static_cast<Reduction>(index_of(text, kReductions, who, "reduction"));
}
Balance parse_balance(std::string_view text, std::string_view who) {
  return static_cast<Balance>(index_of(text, kBalances, who, "balance"));
}

}  // namespace ood
