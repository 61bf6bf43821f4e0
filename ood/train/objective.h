#pragma once

#include "ood/objectives/registry.h"
#include "ood/scores/scores.h"
#include "ood/torch.h"

namespace ood {

/// A loss and the terms it is the sum of, all scalars.
struct Losses {
  at::Tensor total;
  std::vector<std::pair<std::string, at::Tensor>> terms;
};

/// An objective as the training loop sees it. Its parameters are trained with the network's.
class Objective : public torch::nn::Module {
 public:
  /// target: class of each row, < 0 for an outlier.
  virtual Losses forward(const NetworkOutput& output, const at::Tensor& target) = 0;
};

/// The objective of that entry with these parameters, in the order of the entry's table.
std::shared_ptr<Objective> make_objective(const ObjectiveEntry& entry,
                                          const std::vector<double>& parameters);

}  // namespace ood
