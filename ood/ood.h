#pragma once

/// Everything that a program needs to train with libood's objectives.
#include "ood/augment/mixing.h"
#include "ood/metrics/detection.h"
#include "ood/metrics/open_set.h"
#include "ood/metrics/threshold.h"
#include "ood/nn/criterion.h"
#include "ood/objectives/all.h"
#include "ood/registry/registry.h"
#include "ood/scores/fit_data.h"
#include "ood/scores/logits.h"
#include "ood/scores/p_values.h"
#include "ood/scores/score.h"
#include "ood/train/detector.h"
