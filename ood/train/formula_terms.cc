#include "ood/train/formula_terms.h"

#include "ood/ops/row_terms.h"

namespace ood {

at::Tensor formula_terms(const ObjectiveEntry& entry, const std::vector<double>& parameters,
                         const at::Tensor& rows, const at::Tensor& target,
                         const std::optional<at::Tensor>& extras) {
  const auto [sums, counts] =
      row_terms({rows, target, extras, std::nullopt, entry.name, parameters, false, std::nullopt});
  if (entry.row.combine != nullptr) return entry.row.combine(parameters.data(), sums, counts);
  const auto weights =
      mean_weights(counts, sums.size(1), entry.balance == Balance::kWholeBatch, sums.scalar_type());
  return sums.mul(weights).sum(0);
}

Losses named(const ObjectiveEntry& entry, const at::Tensor& terms) {
  Losses losses;
  losses.total = terms.sum();
  for (std::size_t t = 0; t < entry.terms.size(); ++t)
    losses.terms.emplace_back(entry.terms[t], terms.detach()[static_cast<std::int64_t>(t)]);
  return losses;
}

}  // namespace ood
