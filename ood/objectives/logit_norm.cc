#include "ood/objectives/logit_norm.h"

#include <cmath>

#include "ood/registry/register.h"
#include "ood/registry/text.h"

namespace ood {
OOD_REGISTER(LogitNorm);

std::vector<std::string> LogitNorm::check(Tensors in) const {
  const auto classes = static_cast<double>(in[0].size(1));
  // The smallest cross-entropy of C logits of norm 1 / tau: they sum to 0 and all but one are equal.
  const double floor =
      std::log1p((classes - 1) * std::exp(-std::sqrt(classes / (classes - 1)) / tau));
  if (!(classes > 1 && floor > 0.5 * std::log(classes))) return {};
  return {"logit_norm: with tau " + short_number(tau) + " the loss of " + short_number(classes) +
          " classes cannot fall below " + short_number(floor) + " (log C is " +
          short_number(std::log(classes)) +
          "), so little is learnt; set a smaller tau, the paper's is 0.04"};
}

}  // namespace ood
