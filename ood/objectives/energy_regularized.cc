#include "ood/objectives/energy_regularized.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(EnergyRegularized);
}
