#include "ood/objectives/mchad.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(Mchad);
}
