#include "ood/objectives/logit_norm.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(LogitNorm);
}
