#include "ood/objectives/cross_entropy.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(CrossEntropy);
}
