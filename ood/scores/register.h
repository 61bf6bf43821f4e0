#pragma once

#include "ood/formula/evaluate.h"
#include "ood/scores/score.h"

namespace ood {

template <class S>
S made_of(Numbers parameters) {
  if constexpr (requires { S::kParameters; })
    return with_parameters<S>(parameters.data());
  else
    return S{};
}

/// What describes a score, and its functions, each called on an `S` of the given parameters.
template <class S>
ScoreEntry score_entry() {
  ScoreEntry e;
  static_cast<ScoreCard&>(e) = S::kCard;
  if constexpr (requires { S::kParameters; }) e.parameters = parameter_entries<S>();
  if constexpr (requires { S::kState; }) e.state.assign(S::kState.begin(), S::kState.end());
  if constexpr (requires { &S::fit; })
    e.fit_to = [](Numbers n, const FitData& data) { return made_of<S>(n).fit(data); };
  e.compute = [](Numbers n, const NetworkOutput& output, Tensors state) {
    return made_of<S>(n).compute(output, state);
  };
  return e;
}

}  // namespace ood

/// Enters a score into the list when the library that holds this file is loaded.
#define OOD_REGISTER_SCORE(Score)                         \
  [[maybe_unused]] static const bool ood_scored_##Score = \
      ::ood::register_score(::ood::score_entry<Score>())
