#pragma once

/// All of LibTorch's C++ interface; files that include it share a precompiled header.
#include <torch/torch.h>
