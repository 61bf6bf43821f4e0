#include "ood/objectives/cross_entropy.h"

#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(CrossEntropy);
}
