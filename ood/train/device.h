#pragma once

#include <string>

#include "ood/train/model_file.h"

namespace ood {

/// The device that a training computes on, by torch's names: "cpu", "cuda", "cuda:1" and so on. The
/// first call for CUDA loads that part of LibTorch, which must come before the first tensor.
/// UsageError where there is no such device, or where several processes would share it.
c10::Device open_device(const std::string& name);

/// "cpu", and "cuda" or why there is none.
std::string devices_here();

/// Moves a model to a device; its floating-point numbers take a type, counters keep theirs.
void move(const Model& model, c10::Device device, at::ScalarType type);

}  // namespace ood
