#include "ood/objectives/entropic_open_set.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(EntropicOpenSet);
}
