#include "ood/objectives/outlier_exposure.h"

#include "ood/registry/register.h"

namespace ood {
OOD_REGISTER(OutlierExposure);
}
