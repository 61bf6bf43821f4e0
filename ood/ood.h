#pragma once

/// Everything that a program needs to train with libood's objectives.
#include "ood/augment/mixing.h"
#include "ood/metrics/detection.h"
#include "ood/nn/distance_losses.h"
#include "ood/nn/formula_loss.h"
#include "ood/nn/stateful_losses.h"
#include "ood/objectives/background_class.h"
#include "ood/objectives/cross_entropy.h"
#include "ood/objectives/energy_gap.h"
#include "ood/objectives/energy_regularized.h"
#include "ood/objectives/entropic_open_set.h"
#include "ood/objectives/logit_norm.h"
#include "ood/objectives/objectosphere.h"
#include "ood/objectives/outlier_exposure.h"
#include "ood/objectives/registry.h"
#include "ood/scores/scores.h"
#include "ood/train/detector.h"
