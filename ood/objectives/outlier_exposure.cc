#include "ood/objectives/outlier_exposure.h"

#include "ood/objectives/register.h"

namespace ood {
OOD_REGISTER_FORMULA(OutlierExposure);
}
