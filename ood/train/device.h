#pragma once

#include <functional>
#include <string>

#include "ood/data/inputs.h"
#include "ood/train/model_file.h"

namespace ood {

/// The device that networks compute on, by torch's names: "cpu", "cuda", "cuda:1" and so on. The
/// first call for CUDA loads that part of LibTorch, which must come before the first tensor, and has
/// the whole process compute convolutions in float32 and by methods that repeat themselves.
/// UsageError where there is no such device, or where several processes would share it.
c10::Device open_device(const std::string& name);

/// "cpu", and "cuda" or why there is none.
std::string devices_here();

/// While one lives that is on, convolutions of float32 on a GPU read 10 bits of each number's
/// fraction (TF32), as PyTorch lets them unless it is told not to. Matrix products do not: distances
/// made of them would lose their digits.
class Tf32 {
 public:
  explicit Tf32(bool on);
  ~Tf32();
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;

 private:
  bool on_, before_;
};

/// Moves a model to a device; its floating-point numbers take a type, counters keep theirs.
void move(const Model& model, c10::Device device, at::ScalarType type);

/// Moves a network that only computes; `of_user`: it is a file. UsageError where it cannot be there,
/// as constants of its graph and tensors that it makes on a device of its own do not move; found with
/// `inputs` of the kind that it takes, which are asked for where it is to be tried.
void compute_on(c10::Device device, Classifier& network, bool of_user,
                const std::vector<double>& mean, const std::vector<double>& deviation,
                const std::function<Inputs()>& inputs);

}  // namespace ood
