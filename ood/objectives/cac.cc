#include "ood/objectives/cac.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(Cac);
}
