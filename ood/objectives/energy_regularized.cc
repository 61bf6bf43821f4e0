#include "ood/objectives/energy_regularized.h"

#include "ood/registry/register.h"
#include "ood/registry/text.h"

namespace ood {
OOD_REGISTER(EnergyRegularized);

namespace {

// One line where a hinge is violated by none or by all of these rows.
void check_hinge(const char* margin, double value, const at::Tensor& violated, const char* rows,
                 const at::Tensor& energies, std::vector<std::string>& out) {
  if (violated.numel() == 0) return;
  const bool all = violated.all().item<bool>();
  if (!all && violated.any().item<bool>()) return;
  out.push_back(c10::str("energy_regularized: ", margin, " ", short_number(value),
                         " is violated by ", all ? "every " : "no ", rows,
                         " row of the first batch (energies ",
                         short_number(energies.min().item<double>()), " to ",
                         short_number(energies.max().item<double>()), "), so the hinge ",
                         all ? "pulls on all rows alike" : "has no gradient",
                         "; `ood margins RUN` proposes margins from a trained run"));
}

}  // namespace

std::vector<std::string> EnergyRegularized::check(Tensors in) const {
  std::vector<std::string> out;
  const auto energy = -in[0].logsumexp(1);
  const auto id = energy.masked_select(in[1].ge(0)), ood = energy.masked_select(in[1].lt(0));
  check_hinge("margin_in", margin_in, id.gt(margin_in), "ID", id, out);
  check_hinge("margin_out", margin_out, ood.lt(margin_out), "OOD", ood, out);
  return out;
}

}  // namespace ood
