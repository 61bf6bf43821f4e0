#include "ood/objectives/entropic_open_set.h"

#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(EntropicOpenSet);
}
