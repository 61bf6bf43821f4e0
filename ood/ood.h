#pragma once

/// Everything that a program needs to train with libood's objectives.
#include "ood/augment/mixing.h"
#include "ood/metrics/detection.h"
#include "ood/nn/criterion.h"
#include "ood/objectives/all.h"
#include "ood/registry/registry.h"
#include "ood/scores/scores.h"
#include "ood/train/detector.h"
