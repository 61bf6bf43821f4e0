#pragma once

#include <string>

#include "ood/data/inputs.h"
#include "ood/train/model_file.h"

namespace ood {

/// The device that networks compute on, by torch's names: "cpu", "cuda", "cuda:1" and so on. The
/// first call for CUDA loads that part of LibTorch, which must come before the first tensor.
/// UsageError where there is no such device, or where several processes would share it.
c10::Device open_device(const std::string& name);

/// "cpu", and "cuda" or why there is none.
std::string devices_here();

/// While one lives that is on, products and convolutions of float32 on a GPU read 10 bits of each
/// number's fraction (TF32), as those of PyTorch do where it is told to, or convolves.
class Tf32 {
 public:
  explicit Tf32(bool on);
  ~Tf32();
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;

 private:
  bool on_;
};

/// Moves a model to a device; its floating-point numbers take a type, counters keep theirs.
void move(const Model& model, c10::Device device, at::ScalarType type);
/// The same of the network alone, of float32; its objective computes on the CPU of what it says.
void move(torch::nn::Module& network, c10::Device device, at::ScalarType type = at::kFloat);

/// That a network which was moved can compute there, by inputs of any kind that it takes. UsageError
/// where constants of its graph, or tensors that it makes on a device of its own, did not move.
void try_network(Classifier& network, const std::vector<double>& mean,
                 const std::vector<double>& deviation, const Inputs& inputs);

}  // namespace ood
